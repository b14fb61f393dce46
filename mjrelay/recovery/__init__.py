"""What to do when a camera fails."""
