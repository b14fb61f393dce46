"""Tests of mjrelay.installing."""
