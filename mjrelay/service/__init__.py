"""The daemon among other services: its logs, what systemd and it tell each other, its rights."""
