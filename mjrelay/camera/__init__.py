"""Camera: everything one camera owns while it lives."""
