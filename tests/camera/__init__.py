"""Tests of mjrelay.camera."""
