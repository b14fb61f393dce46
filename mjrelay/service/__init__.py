"""The daemon among other services: systemd, its logs, its installation."""
