"""Devices: finds, opens and resets the cameras of this computer, and tells what is in the way."""
