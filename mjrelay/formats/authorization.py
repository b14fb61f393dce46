"""Answer a camera's request for a password: Basic (RFC 7617) and Digest (RFC 7616, RFC 2069).

Cameras do not agree on how letters beyond ASCII become bytes, and a hash is of bytes. So texts that
come from a camera or go to one stand for their bytes here: each character is one byte (Latin-1).
"""

import base64
import hashlib
import re
from dataclasses import dataclass, replace

_PARAMETER = re.compile(r'([\w-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)(?:"|$)|([^\s,"]+))\s*,?\s*')
_SCHEME = re.compile(r"[\s,]*([A-Za-z][\w-]*)(?=\s+[\w-]+\s*=|\s*,|\s*$)\s*")
_QUOTED_PAIR = re.compile(r'\\(["\\])')
_HASHES = {"MD5": hashlib.md5, "SHA-256": hashlib.sha256}
_NEXT_NONCE = re.compile(r'nextnonce\s*=\s*"([^"]*)"', re.IGNORECASE)
# How names and passwords are spelt in bytes: first as browsers do, then as some old cameras want.
_ENCODINGS = ("utf-8", "latin-1")
_SECOND = 2
# So many nonces in a row that were refused at their second use mean that each is good for one.
_ENOUGH_WASTED = 2


@dataclass(frozen=True)
class Credentials:
    """A user's name and password; never printed."""

    username: str
    password: str

    def __repr__(self) -> str:
        return "Credentials(***)"


@dataclass(frozen=True)
class Challenge:
    """One way in that a 401 answer offers: its scheme in lower case, and its parameters.

    A parameter is what stands between its quotes, character for character: a camera expects to see
    the very same again, even where it has written a backslash of its own.
    """

    scheme: str
    parameters: dict[str, str]

    @property
    def is_whole(self) -> bool:
        """Whether it says all that is needed to answer it."""
        return self.scheme != "digest" or "nonce" in self.parameters

    @property
    def is_stale(self) -> bool:
        """Whether our answer was right, but for a nonce that is no longer valid."""
        return self.parameters.get("stale", "").lower() == "true"

    @property
    def wants_utf_8(self) -> bool:
        """Whether names and passwords must be UTF-8."""
        return self.parameters.get("charset", "").lower() == "utf-8"

    @property
    def qops(self) -> list[str]:
        """The qualities of protection it offers; none in the form of RFC 2069."""
        return self.parameters.get("qop", "").lower().replace(",", " ").split()


BASIC = Challenge("basic", {})
"""What a camera means that asks for a password without saying how."""


class Login:
    """What we know of a camera's way in: our credentials, and the challenge it last gave.

    The challenge is kept between connections, so that a camera with one slot is not asked twice.
    Some cameras take a nonce once only: one whose nonces were twice refused at their second use is
    asked afresh each time.

    Attributes:
        credentials: Who we are; None: nobody.
        refusals: How often the camera refused them since it last let us in.
    """

    def __init__(self, credentials: Credentials | None) -> None:
        self.credentials = credentials
        self.refusals = 0
        self._challenge: Challenge | None = None
        self._encoding = _ENCODINGS[0]
        self._uses = 0
        self._wasted = 0  # nonces that were refused at their second use, one after the other

    @property
    def is_ready(self) -> bool:
        """Whether the next request will carry our credentials."""
        return self._challenge is not None and self.credentials is not None

    @property
    def is_worn(self) -> bool:
        """Whether the latest request answered a nonce that an earlier one had answered already."""
        is_digest = self._challenge is not None and self._challenge.scheme == "digest"
        return is_digest and self._uses >= _SECOND

    def take_up(self, challenge: Challenge) -> None:
        """Answer this challenge from now on."""
        self.forget()
        self._challenge = challenge

    def forget(self) -> None:
        """Ask afresh: the challenge kept from before is good no more."""
        if self._uses == _SECOND:
            self._wasted += 1
        self._challenge = None
        self._uses = 0

    def let_in(self, info: str) -> None:
        """Note that the camera has let us in.

        Args:
            info: Its `Authentication-Info` header, which may hold the nonce to use next.
        """
        if not self.is_ready:
            return
        self.refusals = 0
        if self._uses >= _SECOND:
            self._wasted = 0
        if (named := _NEXT_NONCE.search(info)) and self._challenge:
            parameters = self._challenge.parameters | {"nonce": named[1]}
            self._challenge = replace(self._challenge, parameters=parameters)
            self._uses = 0
        elif self._wasted >= _ENOUGH_WASTED:
            self._challenge = None

    def refused(self) -> None:
        """Note that the camera refused our credentials, though its challenge was fresh."""
        self.refusals += 1
        self._challenge = None

    def spells_differently(self, challenge: Challenge | None) -> bool:
        """After a refusal: answer this challenge in the other encoding, if that makes a difference.

        Browsers and most cameras take UTF-8. Some older ones take Latin-1.

        Returns:
            Whether there is something new to try.
        """
        before, self._encoding = self._encoding, _ENCODINGS[0]
        if challenge is None or self.credentials is None or before != _ENCODINGS[0]:
            return False
        text = f"{self.credentials.username}{self.credentials.password}"
        if text.isascii() or challenge.wants_utf_8 or not _is_latin_1(text):
            return False
        self._encoding = _ENCODINGS[1]
        self.take_up(challenge)
        return True

    def header(self, target: str, cnonce: str) -> str | None:
        """The `Authorization` header for a GET of `target`, or None before the first challenge."""
        if not self._challenge or not self.credentials:
            return None
        self._uses += 1
        return authorize(
            self._challenge,
            self.credentials,
            target=target,
            count=self._uses,
            cnonce=cnonce,
            encoding=self._encoding,
        )


def parse_challenges(headers: list[str]) -> list[Challenge]:
    """Read `WWW-Authenticate` headers, each of which may hold several challenges."""
    challenges = []
    for header in headers:
        position = 0
        while scheme := _SCHEME.match(header, position):
            position = scheme.end()
            parameters = {}
            while parameter := _PARAMETER.match(header, position):
                quoted, bare = parameter[2], parameter[3]
                parameters[parameter[1].lower()] = bare if quoted is None else quoted
                position = parameter.end()
            challenges.append(Challenge(scheme[1].lower(), parameters))
    return challenges


def choose(challenges: list[Challenge]) -> Challenge | None:
    """The strongest challenge we can answer, or None."""
    for algorithm in ("SHA-256", "MD5"):
        for challenge in challenges:
            qops = challenge.qops
            has_auth = not qops or "auth" in qops  # "auth-int" alone is more than we can do
            is_digest = challenge.scheme == "digest" and challenge.is_whole
            if is_digest and _algorithm(challenge)[0] == algorithm and has_auth:
                return challenge
    return next((c for c in challenges if c.scheme == "basic"), None)


def authorize(
    challenge: Challenge,
    credentials: Credentials,
    *,
    target: str,
    count: int,
    cnonce: str,
    encoding: str = "utf-8",
) -> str:
    """The `Authorization` header for a GET.

    Args:
        challenge: One that `choose` returned.
        credentials: Who we are.
        target: The request's target as sent, path and query.
        count: How many requests used this challenge's nonce, this one included.
        cnonce: A random text, fresh for each request.
        encoding: How the letters of the credentials become bytes.
    """
    name, password = (
        text.encode(encoding).decode("latin-1")
        for text in (credentials.username, credentials.password)
    )
    if challenge.scheme == "basic":
        return "Basic " + base64.b64encode(f"{name}:{password}".encode("latin-1")).decode()
    given = challenge.parameters
    realm, nonce = given.get("realm", ""), given.get("nonce", "")
    algorithm, session = _algorithm(challenge)

    def hashed(text: str) -> str:
        return _HASHES[algorithm](text.encode("latin-1")).hexdigest()

    secret = hashed(f"{name}:{_unescaped(realm)}:{password}")
    plain_nonce = _unescaped(nonce)
    if session:
        secret = hashed(f"{secret}:{plain_nonce}:{cnonce}")
    request = hashed(f"GET:{target}")
    fields = {"username": _escaped(name), "realm": realm, "nonce": nonce, "uri": _escaped(target)}
    bare = {}
    if "auth" in challenge.qops:
        bare = {"qop": "auth", "nc": f"{count:08x}"}
        fields["cnonce"] = cnonce
        response = hashed(f"{secret}:{plain_nonce}:{bare['nc']}:{cnonce}:auth:{request}")
    else:
        if session:
            fields["cnonce"] = cnonce
        response = hashed(f"{secret}:{plain_nonce}:{request}")
    fields["response"] = response
    if "opaque" in given:
        fields["opaque"] = given["opaque"]
    if "algorithm" in given:
        bare["algorithm"] = given["algorithm"]
    quoted = [f'{key}="{value}"' for key, value in fields.items()]
    return "Digest " + ", ".join([*quoted, *(f"{key}={value}" for key, value in bare.items())])


def _algorithm(challenge: Challenge) -> tuple[str, bool]:
    """The hash a Digest challenge asks for, and whether it is the session form."""
    name = challenge.parameters.get("algorithm", "MD5").upper()
    return name.removesuffix("-SESS"), name.endswith("-SESS")


def _escaped(text: str) -> str:
    """A text as it stands between quotes."""
    return text.replace("\\", "\\\\").replace('"', '\\"')


def _unescaped(quoted: str) -> str:
    """What a text between quotes means. A backslash in front of another letter means itself."""
    return _QUOTED_PAIR.sub(r"\1", quoted)


def _is_latin_1(text: str) -> bool:
    return all(letter < "\u0100" for letter in text)
