"""Bytes in, values out: no sockets, no files, no clock, no logging."""
