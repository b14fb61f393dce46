"""Tests of mjrelay.configuration."""
