"""Greeting: the addresses at which people can watch, as they type them into a browser.

No name is looked up for it: without a network, a resolver may hang for half a minute.
"""

import contextlib
import fcntl
import re
import socket
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

from mjrelay.configuration.address import ListenAddress

_EVERYWHERE = ("", "0.0.0.0", "::")  # noqa: S104
_IF_INET6 = Path("/proc/net/if_inet6")
# Where avahi answers, other computers on the network find this one as HOSTNAME.local.
_AVAHI = Path("/run/avahi-daemon")

# Networks between this computer and its own containers and virtual machines.
_INNER = re.compile(
    r"(?:lo|docker|br-|veth|virbr|vnet|vboxnet|vmnet|lxc|lxd|podman|cni|flannel|cali)"
)
# ioctl(2) SIOCGIFFLAGS and SIOCGIFADDR, and the offsets in struct ifreq of what they answer.
_GET_FLAGS, _GET_ADDRESS = 0x8913, 0x8915
_REQUEST = struct.Struct("16s24x")
_FLAGS, _IPV4 = struct.Struct("16xH"), struct.Struct("20x4s")
_UP_AND_RUNNING = 0x1 | 0x40
_GLOBAL = 0x00
_MOST_SHOWN = 4

_STATUS = "http://localhost/status"


def greeting(
    listeners: Sequence[tuple[ListenAddress, str]],
    base_path: str = "/",
    *,
    service: Path | None = None,
) -> Iterator[str]:
    """Lines that say where to watch, and how to let others watch if nobody else can.

    Args:
        listeners: Each address to listen on, and the camera that alone is shown there; empty for
            all cameras.
        base_path: The path under which a proxy shows mjrelay.
        service: The configuration of the service, if it is one that listens.
    """
    for address, camera in listeners:
        what = f"Watch {camera}" if camera else "Watch"
        if address.path:
            yield f"{what} through a proxy, or: curl --unix-socket {address.path} {_STATUS}"
        else:
            urls = [f"http://{place}{base_path}" for place in _places(address)]
            yield f"{what} at {' or '.join(urls)}"
    ports = [address.port for address, _ in listeners if not address.path]
    if ports and all(_is_loopback(address) for address, _ in listeners):
        option = f'listen = ["0.0.0.0:{ports[0]}"]'
        how = (
            f"{option} in {service}, then: sudo systemctl restart mjrelay"
            if service
            else f"--listen 0.0.0.0:{ports[0]}, or {option} in the configuration"
        )
        yield f"Only this computer can watch. To let others: {how}"


def _places(address: ListenAddress) -> list[str]:
    """The host and port of an address, in each form in which a browser reaches it."""
    if address.host not in _EVERYWHERE:
        return [str(address)]
    places = network_addresses(with_ipv6=address.host == "::") or ["localhost"]
    return [str(ListenAddress(host, address.port)) for host in [*places, *_local_name()]]


def _is_loopback(address: ListenAddress) -> bool:
    return bool(address.path) or address.host in ("localhost", "::1") or address.host[:4] == "127."


def network_addresses(*, with_ipv6: bool = False) -> list[str]:
    """This computer's addresses in its networks, without those of containers.

    IPv6 addresses are told only where there is no IPv4 address: nobody types one if he need not.
    """
    outer = [name for _, name in _interfaces() if not _INNER.match(name)]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        found = [address for name in outer if (address := _ipv4(sock, name))]
    if not found and with_ipv6:
        found = [address for name, address in _ipv6() if name in outer]
    return list(dict.fromkeys(found))[:_MOST_SHOWN]


def _interfaces() -> list[tuple[int, str]]:
    with contextlib.suppress(OSError):
        return socket.if_nameindex()
    return []


def _ipv4(sock: socket.socket, name: str) -> str:
    """The IPv4 address of an interface that is in use; empty if it has none."""
    request = _REQUEST.pack(name.encode())
    try:
        (flags,) = _FLAGS.unpack_from(fcntl.ioctl(sock, _GET_FLAGS, request))
        (address,) = _IPV4.unpack_from(fcntl.ioctl(sock, _GET_ADDRESS, request))
    except OSError:
        return ""
    return socket.inet_ntoa(address) if flags & _UP_AND_RUNNING == _UP_AND_RUNNING else ""


def _ipv6() -> Iterator[tuple[str, str]]:
    """The IPv6 addresses that other networks can reach, with the names of their interfaces."""
    with contextlib.suppress(OSError):
        for line in _IF_INET6.read_text().splitlines():
            address, _, _, scope, _, name = line.split()
            if int(scope, 16) == _GLOBAL:
                yield name, socket.inet_ntop(socket.AF_INET6, bytes.fromhex(address))


def _local_name() -> list[str]:
    """This computer's name in the local network, if something answers to it."""
    name = socket.gethostname().partition(".")[0].lower()
    return [f"{name}.local"] if _AVAHI.is_dir() and name not in ("", "localhost") else []
