"""The daemon among other services: its logs, its rights, systemd, and how it is installed."""
