"""Service: the daemon's logs, its talk with systemd, and its rights."""
