"""The daemon among other services: its logs, systemd, and how it is installed."""
