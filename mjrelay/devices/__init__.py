"""Cameras of this computer: which there are, who holds them, when they come and go."""
