"""One camera connection in, any number of MJPEG viewers out."""

__version__ = "0.1.0"
