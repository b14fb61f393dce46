"""Cameras of this computer: which there are, which processes hold them, when they come and go."""
