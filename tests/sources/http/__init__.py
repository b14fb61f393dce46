"""Tests of mjrelay.sources.http."""
