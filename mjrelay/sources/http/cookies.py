"""Cookies: what a camera asks us to send back with later requests (RFC 6265, as far as needed)."""

import email.utils
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

from mjrelay.configuration.address import HttpAddress
from mjrelay.formats.http1 import ResponseHead

# A camera sets one or two. More, or longer ones, would make requests that it could not read itself.
_MOST = 20
_LONGEST = 4096  # RFC 6265, section 6.1
_MOST_LETTERS = 8192

_NAME = re.compile(r"[^\s=;,\x00-\x1f\x7f]+")
_VALUE = re.compile(r"[^;\x00-\x1f\x7f]*")
_MAX_AGE = re.compile(r"-?[0-9]{1,15}")


@dataclass(frozen=True)
class _Cookie:
    """One cookie.

    Attributes:
        setter: The address that set it.
        path: It is for this path and what lies below.
        expires: When it ends, in seconds of the monotonic clock.
    """

    name: str
    value: str
    setter: HttpAddress
    path: str
    expires: float

    def is_for(self, address: HttpAddress) -> bool:
        """Whether it may and should be sent to an address."""
        asked, own = _path_of(address), self.path
        is_below = asked.startswith(own) and (
            own.endswith("/") or asked[len(own) :][:1] in ("", "/")
        )
        return is_below and self.setter.may_share_secrets_with(address)


class Cookies:
    """The cookies of one camera, a few at most.

    They go to the host and port that set them, and to that host over TLS: like a password.
    """

    def __init__(self) -> None:
        self._cookies: list[_Cookie] = []  # the latest last

    def __bool__(self) -> bool:
        return bool(self._cookies)

    def take(self, head: ResponseHead, address: HttpAddress, *, now: float, wall: float) -> None:
        """Take the cookies that an answer sets, and drop those that it ends.

        Args:
            head: The answer's.
            address: Where it comes from.
            now: In seconds of the monotonic clock.
            wall: In Unix seconds. It counts where the answer has no date: cameras that think it is
                1970 say so, and end their cookies in 1970.
        """
        for text in head.all("set-cookie")[-_MOST:]:
            pair, _, rest = text.partition(";")
            name, equals, value = (word.strip() for word in pair.partition("="))
            if not (equals and _NAME.fullmatch(name) and _VALUE.fullmatch(value)):
                continue
            attributes = _attributes(rest)
            path = attributes.get("path", "")
            lasts = _lifetime(attributes, _seconds(head.get("date")) or wall)
            cookie = _Cookie(
                name,
                value,
                address,
                path if path.startswith("/") else _path_of(address).rpartition("/")[0] or "/",
                now + lasts,
            )
            self._put(cookie, ends=lasts <= 0)

    def _put(self, cookie: _Cookie, *, ends: bool) -> None:
        """Put a cookie in place of the one of its name, or end that one."""
        key = cookie.name, cookie.path, cookie.setter.host
        self._cookies = [c for c in self._cookies if (c.name, c.path, c.setter.host) != key]
        if ends or len(cookie.name) + len(cookie.value) > _LONGEST:
            return
        self._cookies.append(cookie)
        while len(self._cookies) > _MOST or self._letters() > _MOST_LETTERS:
            del self._cookies[0]

    def _letters(self) -> int:
        return sum(len(cookie.name) + len(cookie.value) for cookie in self._cookies)

    def header(self, address: HttpAddress, *, now: float) -> str:
        """The value of the `Cookie` header for an address; empty for none."""
        self._cookies = [cookie for cookie in self._cookies if cookie.expires > now]
        sent = sorted(
            (cookie for cookie in self._cookies if cookie.is_for(address)),
            key=lambda cookie: -len(cookie.path),
        )
        return "; ".join(f"{cookie.name}={cookie.value}" for cookie in sent)

    def forget(self) -> None:
        """Begin anew: the camera takes them no more."""
        self._cookies.clear()


def _path_of(address: HttpAddress) -> str:
    return address.target.partition("?")[0]


def _attributes(text: str) -> dict[str, str]:
    """The attributes of a cookie, by their names in lower case."""

    def pairs() -> Iterator[tuple[str, str]]:
        for attribute in text.split(";"):
            name, _, value = attribute.partition("=")
            yield name.strip().lower(), value.strip()

    return dict(pairs())


def _lifetime(attributes: dict[str, str], date: float) -> float:
    """How many seconds a cookie lasts; none or fewer: it ends now.

    Args:
        attributes: The cookie's.
        date: When the answer was sent, in Unix seconds by the clock that wrote `Expires`.
    """
    if _MAX_AGE.fullmatch(attributes.get("max-age", "")):
        return float(attributes["max-age"])
    expires = _seconds(attributes.get("expires", ""))
    return math.inf if expires is None else expires - date


def _seconds(date: str) -> float | None:
    """A date of HTTP in Unix seconds; None if it is none."""
    try:
        parsed = email.utils.parsedate_tz(date)
        return None if parsed is None else email.utils.mktime_tz(parsed)
    except (ValueError, OverflowError, IndexError, TypeError):
        return None
