"""Installing: makes a systemd service of mjrelay, once, as root."""
