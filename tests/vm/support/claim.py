"""Claims a camera as its driver means it (VIDIOC_REQBUFS), tells its pid, and waits to be killed.

python3 claim.py NODE open     has the node open, and does not claim it
python3 claim.py NODE claimed  has claimed it
python3 claim.py NODE forked   a child that only inherited the descriptor; its parent has ended
python3 claim.py NODE mapped   has a buffer mapped, and the descriptor too
python3 claim.py NODE mapping  has a buffer mapped, and no descriptor any more
"""

import fcntl
import mmap
import os
import struct
import sys
import time

_REQBUFS = 0xC0145608
_QUERYBUF = 0xC0585609
_CAPTURE, _MMAP = 1, 1
# struct v4l2_buffer, where a long has 64 bits.
_BUFFER_SIZE, _OFFSET_AT, _LENGTH_AT = 88, 64, 72


def map_buffer(device: int) -> mmap.mmap:
    """Map the first buffer."""
    buffer = bytearray(_BUFFER_SIZE)
    struct.pack_into("II", buffer, 0, 0, _CAPTURE)
    fcntl.ioctl(device, _QUERYBUF, buffer)
    (offset,) = struct.unpack_from("I", buffer, _OFFSET_AT)
    (length,) = struct.unpack_from("I", buffer, _LENGTH_AT)
    return mmap.mmap(device, length, offset=offset)


def main() -> None:
    """Do what the command line says."""
    node, how = sys.argv[1:]
    device = os.open(node, os.O_RDWR)
    if how != "open":
        fcntl.ioctl(device, _REQBUFS, bytearray(struct.pack("5I", 1, _CAPTURE, _MMAP, 0, 0)))
    if how == "forked" and os.fork():
        os._exit(0)
    mapping = map_buffer(device) if how.startswith("mapp") else None
    if how == "mapping":
        os.closerange(device, device + 10)  # and the duplicate which Python keeps for the mapping
    sys.stdout.write(f"{os.getpid()}\n")
    sys.stdout.flush()
    time.sleep(600)
    del mapping


if __name__ == "__main__":
    main()
