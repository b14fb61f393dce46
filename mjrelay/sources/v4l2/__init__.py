"""A camera of this computer, which Linux shows as a video device."""
