"""Tests of mjrelay.sources.v4l2."""
