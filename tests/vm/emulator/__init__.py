"""A USB webcam in user space, which the real uvcvideo drives."""
