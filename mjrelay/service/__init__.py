"""The daemon among other services: its logs."""
