"""End to end: real programs on both sides."""
