"""Tests of mjrelay.web."""
