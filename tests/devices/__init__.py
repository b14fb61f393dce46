"""Tests of mjrelay.devices."""
