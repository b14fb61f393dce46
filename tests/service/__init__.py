"""Tests of mjrelay.service."""
