"""Tests of mjrelay.recovery."""
