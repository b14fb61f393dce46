"""Tests of mjrelay.formats."""
