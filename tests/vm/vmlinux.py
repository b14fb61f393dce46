"""Unpacks a kernel: vmlinuz in, ELF vmlinux out.

QEMU starts the ELF file directly, which saves emulating the kernel's own decompressor.
"""

import lzma
import struct
import subprocess
import sys
import zlib
from pathlib import Path

# Offsets in the boot header; the kernel's Documentation/arch/x86/boot.rst describes it.
_SETUP_SECTORS = 0x1F1
_MAGIC = 0x202
_PAYLOAD = 0x248
_SECTOR = 512


def payload_of(image: bytes) -> bytes:
    """The compressed kernel inside a bzImage."""
    if image[_MAGIC : _MAGIC + 4] != b"HdrS":
        sys.exit("not a Linux kernel")
    sectors = image[_SETUP_SECTORS] or 4
    offset, length = struct.unpack_from("<II", image, _PAYLOAD)
    begin = (sectors + 1) * _SECTOR + offset
    return image[begin : begin + length]


def decompressed(payload: bytes) -> bytes:
    """The kernel itself."""
    if payload.startswith(b"\xfd7zXZ\0"):
        return lzma.LZMADecompressor().decompress(payload)
    if payload.startswith(b"\x1f\x8b"):
        return zlib.decompressobj(31).decompress(payload)
    if payload.startswith(b"\x28\xb5\x2f\xfd"):
        # Four bytes of length follow, which zstd takes for garbage.
        zstd = ["zstd", "--decompress", "--stdout"]
        return subprocess.run(zstd, input=payload[:-4], stdout=subprocess.PIPE, check=True).stdout
    sys.exit(f"a kernel compressed in an unknown way: {payload[:8].hex()}")


def main(source: str, target: str) -> None:
    """Unpack one kernel."""
    kernel = decompressed(payload_of(Path(source).read_bytes()))
    if not kernel.startswith(b"\x7fELF"):
        sys.exit("the kernel is no ELF file")
    Path(target).write_bytes(kernel)


if __name__ == "__main__":
    main(*sys.argv[1:])
