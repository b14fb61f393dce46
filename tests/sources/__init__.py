"""Tests of mjrelay.sources."""
