"""The addresses of a configuration: what a SOURCE text names, and where to listen.

They are parsed when the configuration is read, so that a mistake shows before anything starts.
"""

import ipaddress
import re
import shlex
from dataclasses import dataclass
from functools import cached_property
from urllib.parse import parse_qsl, quote, unquote, urljoin

from mjrelay.configuration.redaction import CommandRedaction, redact

# The characters of a path and query that are sent as they are; others are percent-encoded, but for
# ASCII letters and digits.
_AS_IT_IS = "%/:?#[]@!$&'()*+,;=~-._|\\^`{}\"<>"
_URL = re.compile(
    r"(?P<scheme>https?)://(?P<authority>[^/?#]+)(?P<path>/[^?#]*)?(?P<query>\?[^#]+)?",
    re.IGNORECASE,
)
# A host with its port. An IPv6 address may have a zone, as in [fe80::1%25eth0] or [fe80::1%eth0].
_IPV6 = re.compile(r"\[([0-9a-f:.]+)(?:%(?:25)?([\w.-]{1,32}))?\]$", re.IGNORECASE | re.ASCII)
_HOST_NAME = re.compile(r"[\w.~-]+", re.ASCII)
# Bytes of a command line that are no UTF-8.
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_MOST_PORT = 65535

USUAL_HOST, USUAL_PORT = "127.0.0.1", 8080
"""Where to listen unless something else is said: for this computer only."""

ESCAPES = "in a password write / as %2F, ? as %3F, # as %23, @ as %40, [ as %5B, ] as %5D"
"""How to write what a URL keeps for itself."""
_A_URL = f"a URL such as http://HOST:8080/?action=stream ({ESCAPES}, % as %25)"
# An IPv6 address without brackets that ends like a port: nobody can tell what was meant.
_MAY_HAVE_A_PORT = re.compile(r"[^\[]*::?[^\[]*:(?:80|443|8\d{3})$")
_SIZE = re.compile(r"(\d{2,5})x(\d{2,5})$")
_USB = re.compile(r"usb:([0-9a-f]{4}):([0-9a-f]{4})(?::(.+))?$", re.IGNORECASE)


@dataclass(frozen=True, repr=False)
class HttpAddress:
    """A camera that answers HTTP.

    Attributes:
        host: Name or IP address as it is looked up: without brackets, in ASCII, and with the zone
            of an IPv6 address, as in fe80::1%eth0.
        target: Path and query as the camera is sent them, percent-encoded.
        username: From the URL, decoded; empty where it has none.
        password: From the URL, decoded; empty where it has none.
    """

    tls: bool
    host: str
    port: int
    target: str
    username: str = ""
    password: str = ""

    @classmethod
    def parse(cls, url: str) -> "HttpAddress":
        """Read a URL. Raises ValueError with what is wrong."""
        if re.search(r"[\x00-\x20\x7f]", url):
            raise ValueError("a URL without spaces (write a space as %20)")
        parts = _URL.match(url)
        if not parts or _SURROGATE.search(url):
            raise ValueError(_A_URL)
        tls = parts["scheme"].lower() == "https"
        userinfo, _, authority = parts["authority"].rpartition("@")
        username, _, password = userinfo.partition(":")
        host, port = _host_and_port(authority)
        return cls(
            tls=tls,
            host=host,
            port=port or (443 if tls else 80),
            target=quote((parts["path"] or "/") + (parts["query"] or ""), safe=_AS_IT_IS),
            username=unquote(username),
            password=unquote(password),
        )

    @property
    def authority(self) -> str:
        """What the Host header holds: the port only where it is not the usual one, and no zone."""
        return self._authority(self.host.partition("%")[0])

    def _authority(self, host: str) -> str:
        host = f"[{host}]" if ":" in host else host
        return host if self.port == (443 if self.tls else 80) else f"{host}:{self.port}"

    @property
    def url(self) -> str:
        """The address without credentials in front of the host."""
        return self._origin + self.target

    @property
    def _origin(self) -> str:
        authority = self._authority(self.host.replace("%", "%25"))
        return f"http{'s' if self.tls else ''}://{authority}"

    def __repr__(self) -> str:
        return f"HttpAddress({self.label!r})"

    @property
    def label(self) -> str:
        """The address as people may see it."""
        return self._origin + redact(self.target)

    identity = url
    """Equal for two addresses of the same camera."""

    def redirected(self, location: str) -> "HttpAddress":
        """Where a redirect leads. Raises ValueError if that is no HTTP address."""
        return HttpAddress.parse(urljoin(self.url, location))

    def may_share_secrets_with(self, other: "HttpAddress") -> bool:
        """Whether a password for this address may be sent to another.

        To the same port of the same host, and to any port of that host over TLS.
        """
        same_port = (self.tls, self.port) == (other.tls, other.port)
        return self.host == other.host and (same_port or other.tls)


def _host_and_port(authority: str) -> tuple[str, int | None]:
    """Part a host from its port, which may be missing. Raises ValueError with what is wrong."""
    host, colon, port = authority.rpartition(":")
    if not colon or port.endswith("]"):
        host, port = authority, ""
    if not host:
        raise ValueError(f"a host name or IP address between // and the port, as in {_A_URL}")
    if port and not (port.isdecimal() and port.isascii() and 0 < int(port[:6]) <= _MOST_PORT):
        raise ValueError(f"a port from 1 to {_MOST_PORT} behind the colon, as in {_A_URL}")
    return _host(host), int(port) if port else None


def _host(text: str) -> str:
    """A host as it is looked up. Raises ValueError if it is none."""
    try:
        if found := _IPV6.match(text):
            zone = f"%{found[2]}" if found[2] else ""
            return f"{ipaddress.IPv6Address(found[1])}{zone}"
        name = text.lower() if text.isascii() else text.encode("idna").decode()
    except ValueError as error:  # its own message could show a password
        raise ValueError(_A_URL) from error
    if not _HOST_NAME.fullmatch(name):
        raise ValueError(_A_URL)
    return name


@dataclass(frozen=True)
class V4l2Address:
    """A camera of this computer: a video device, by its path or by its USB ids.

    Attributes:
        path: Such as /dev/video0 or /dev/v4l/by-id/…; empty for USB ids.
        vendor: The USB vendor id, four hexadecimal digits, as lsusb prints it.
        product: The USB product id, four hexadecimal digits, as lsusb prints it.
        serial: The serial number; empty for any.
    """

    path: str = ""
    vendor: str = ""
    product: str = ""
    serial: str = ""

    @classmethod
    def parse(cls, text: str) -> "V4l2Address":
        """Read `/dev/…` or `usb:VVVV:PPPP[:SERIAL]`. Raises ValueError with what is wrong."""
        if text.startswith("/dev/") and text.isprintable():
            return cls(path=text)
        match = _USB.match(text)
        if not match:
            raise ValueError("usb:VVVV:PPPP or usb:VVVV:PPPP:SERIAL, as `mjrelay devices` shows")
        return cls(vendor=match[1].lower(), product=match[2].lower(), serial=match[3] or "")

    @property
    def label(self) -> str:
        """The address as people may see it."""
        if self.path:
            return self.path
        return ":".join(filter(None, ("usb", self.vendor, self.product, self.serial)))

    identity = label
    """Equal for two addresses of the same camera."""


@dataclass(frozen=True)
class TestcardAddress:
    """The moving test card.

    Attributes:
        size: Width and height in pixels.
        fps: Images per second.
    """

    size: tuple[int, int] = (640, 480)
    fps: float = 15.0

    __test__ = False  # pytest: no test class

    @classmethod
    def parse(cls, text: str) -> "TestcardAddress":
        """Read `testcard:?size=1280x720&fps=30`. Raises ValueError with what is wrong."""
        usual = cls()
        options = dict(parse_qsl(text.partition("?")[2], keep_blank_values=True))
        size = _SIZE.match(options.pop("size", "{}x{}".format(*usual.size)))
        fps = options.pop("fps", str(usual.fps))
        if options or not size or text.partition("?")[0].lower() != "testcard:":
            raise ValueError("testcard:?size=640x480&fps=15")
        width, height = int(size[1]), int(size[2])
        if not (32 <= width <= 3840 and 32 <= height <= 2160):  # noqa: PLR2004
            raise ValueError("a test card between 32x32 and 3840x2160 pixels")
        try:
            rate = float(fps)
        except ValueError:
            rate = 0.0
        if not 0.1 <= rate <= 120:  # noqa: PLR2004
            raise ValueError("a test card of 0.1 to 120 fps")
        return cls((width, height), rate)

    @property
    def label(self) -> str:
        """The address as people may see it."""
        return "testcard:?size={}x{}&fps={:g}".format(*self.size, self.fps)

    identity = None
    """Never equal to another: several cameras may show test cards."""


@dataclass(frozen=True, repr=False)
class CommandAddress:
    """A program that writes JPEGs to its standard output."""

    arguments: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> "CommandAddress":
        """Read `exec:COMMAND ARG…`, quoted as for a shell. Raises ValueError."""
        try:
            arguments = shlex.split(text.partition(":")[2])
        except ValueError as error:
            raise ValueError(f"a command quoted as for a shell ({error})") from error
        if not arguments or "\0" in text:
            raise ValueError("a command, as in exec:ffmpeg -i rtsp://… -f mjpeg -")
        return cls(tuple(arguments))

    @cached_property
    def redaction(self) -> CommandRedaction:
        """Keeps the command's secrets out of what people see."""
        return CommandRedaction(self.arguments)

    @property
    def label(self) -> str:
        """The address as people may see it."""
        return "exec:" + " ".join(self.redaction.words)

    def __repr__(self) -> str:
        return f"CommandAddress({self.label!r})"

    @property
    def identity(self) -> str:
        """Equal for two addresses of the same camera."""
        return "exec:" + shlex.join(self.arguments)


def ffmpeg_command(reading: str) -> str:
    """A SOURCE in which ffmpeg makes pictures of what it reads, such as "-i rtsp://…"."""
    return f"exec:ffmpeg -nostdin -loglevel error {reading} -an -q:v 5 -f mjpeg -"


@dataclass(frozen=True)
class ListenAddress:
    """Where to listen: a host and a port, or the path of a unix socket.

    Attributes:
        host: Name or IP address without brackets; empty for every address of the computer.
        port: 0 lets the kernel choose one.
        path: Of the unix socket; empty for a host and port.
    """

    host: str = ""
    port: int = 0
    path: str = ""

    @classmethod
    def parse(cls, text: str, *, usual_port: int | None = None) -> "ListenAddress":
        """Read `HOST:PORT`, `[IPV6]:PORT`, `:PORT`, `unix:/PATH`, or a port or IP address alone.

        A port alone is for this computer only, as nobody has said otherwise.

        Raises:
            ValueError: With what was expected.
        """
        if text.startswith("unix:/") and "\0" not in text:
            return cls(path=text.removeprefix("unix:"))
        if _is_port(text):
            return cls(USUAL_HOST, int(text))
        if text.lower() in ("localhost", "*") or (
            _is_ip_address(text) and not _MAY_HAVE_A_PORT.match(text)
        ):
            return cls(text.strip("[]*"), USUAL_PORT if usual_port is None else usual_port)
        host, colon, port = text.rpartition(":")
        bracketed = host.startswith("[") and host.endswith("]")
        if not (colon and _is_port(port)) or (":" in host and not bracketed):
            raise ValueError(
                'an address such as "127.0.0.1:8080" (for this computer only), "0.0.0.0:8080" or '
                '"[::]:8080" (for everyone) or "unix:/PATH"'
            )
        return cls(host="" if host == "*" else host.strip("[]"), port=int(port))

    def __str__(self) -> str:
        if self.path:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def _is_port(text: str) -> bool:
    return text.isdecimal() and len(text) < 6 and int(text) <= _MOST_PORT  # noqa: PLR2004


def _is_ip_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text.strip("[]"))
    except ValueError:
        return False
    return True


Address = HttpAddress | V4l2Address | TestcardAddress | CommandAddress


def parse_address(text: str) -> Address:
    """Read a SOURCE. Raises ValueError with what was expected instead."""
    scheme = text.partition(":")[0].lower()
    if scheme in ("http", "https"):
        return HttpAddress.parse(text)
    if scheme == "usb" or text.startswith("/dev/"):
        return V4l2Address.parse(text)
    if scheme == "testcard":
        return TestcardAddress.parse(text)
    if scheme == "exec":
        return CommandAddress.parse(text)
    raise ValueError("http://…, https://…, /dev/video0, usb:VVVV:PPPP, testcard: or exec:COMMAND")
