"""In a virtual machine: the real uvcvideo, udev and systemd, and a camera that misbehaves."""
