"""A camera that answers HTTP."""
