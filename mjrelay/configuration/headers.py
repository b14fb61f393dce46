"""The headers of a camera's requests that a configuration sets."""

import re
from dataclasses import dataclass, field

from mjrelay.configuration.redaction import HIDDEN, is_secret_name, redact

# RFC 9110, section 5.6.2.
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"[^\x00-\x08\x0a-\x1f\x7f]*")
# How long an answer is, whom it is for and how it is packed is for mjrelay to say.
_OURS = frozenset(
    {
        *("host", "connection", "content-length", "transfer-encoding", "accept-encoding"),
        *("keep-alive", "proxy-connection", "expect", "te", "trailer", "upgrade", "range"),
    }
)


@dataclass(frozen=True)
class Header:
    """The value of a header, and where it is from.

    Attributes:
        value: As written; of a file, once that was read.
        file: The name of the file that holds it; empty where it stands in the configuration.
        is_secret: Whether nobody but the camera may see it.
    """

    value: str = field(default="", repr=False)
    file: str = ""
    is_secret: bool = False

    def read(self, content: str) -> "Header":
        """The same header with what its file holds. Raises ValueError if that is no value."""
        value = content.strip()
        if not value or not _VALUE.fullmatch(value):
            raise ValueError("it must hold one line, without control characters")
        return Header(value, self.file, self.is_secret)

    @property
    def shown(self) -> object:
        """As it stands in a configuration, without secrets."""
        if self.file:
            return {"file": self.file}
        return HIDDEN if self.is_secret else redact(self.value)


def read_headers(value: object) -> dict[str, Header]:
    """Headers by their names. Raises ValueError with what was expected."""
    if not isinstance(value, dict):
        raise ValueError('a table such as { "Referer" = "http://192.168.1.200/" }')
    headers = {_name(name): _header(name, given) for name, given in value.items()}
    lowered = [name.lower() for name in headers]
    if twice := next((name for name in headers if lowered.count(name.lower()) > 1), None):
        raise ValueError(f"each header once, and {twice} is there twice")
    return headers


def _name(name: str) -> str:
    if not _TOKEN.fullmatch(name):
        raise ValueError("names of letters, digits and -, such as Referer")
    if name.lower() in _OURS:
        raise ValueError(f"other headers than {name}, which mjrelay must set itself")
    return name


def _header(name: str, given: object) -> Header:
    match given:
        case str():
            if not _VALUE.fullmatch(given):
                raise ValueError(f"for {name} a text of one line, without control characters")
            return Header(given, is_secret=is_secret_name(name))
        case {"file": str(file), **others} if file and not others:
            return Header(file=file, is_secret=True)
        case _:
            raise ValueError(f'for {name} a text in quotes, or {{ file = "NAME" }}')
