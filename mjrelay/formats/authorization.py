"""Answer a camera's request for a password: Basic (RFC 7617) and Digest (RFC 7616, RFC 2069)."""

import base64
import hashlib
import re
from dataclasses import dataclass

_PARAMETER = re.compile(r'([\w-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))\s*,?\s*')
_SCHEME = re.compile(r"\s*,*\s*([A-Za-z][\w-]*)(?=\s+[\w-]+\s*=|\s*,|\s*$)\s*")
_HASHES = {"MD5": hashlib.md5, "SHA-256": hashlib.sha256}


@dataclass(frozen=True)
class Credentials:
    """A user's name and password; never printed."""

    username: str
    password: str

    def __repr__(self) -> str:
        return "Credentials(***)"


@dataclass(frozen=True)
class Challenge:
    """One way in that a 401 answer offers: its scheme in lower case, and its parameters."""

    scheme: str
    parameters: dict[str, str]

    @property
    def is_stale(self) -> bool:
        """Whether our answer was right, but for a nonce that is no longer valid."""
        return self.parameters.get("stale", "").lower() == "true"

    @property
    def qops(self) -> list[str]:
        """The qualities of protection it offers; none in the form of RFC 2069."""
        return self.parameters.get("qop", "").lower().replace(",", " ").split()


class Login:
    """What we know of a camera's way in: our credentials, and the challenge it last gave.

    The challenge is kept between connections, so that a camera with one slot is not asked twice.
    """

    def __init__(self, credentials: Credentials | None) -> None:
        self.credentials = credentials
        self._challenge: Challenge | None = None
        self._uses = 0

    def take_up(self, challenge: Challenge | None) -> None:
        """Answer this challenge from now on; none: ask afresh."""
        self._challenge = challenge
        self._uses = 0

    def header(self, target: str, cnonce: str) -> str | None:
        """The `Authorization` header for a GET of `target`, or None before the first challenge."""
        if not self._challenge or not self.credentials:
            return None
        self._uses += 1
        return authorize(
            self._challenge, self.credentials, target=target, count=self._uses, cnonce=cnonce
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
                value = bare if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
                parameters[parameter[1].lower()] = value
                position = parameter.end()
            challenges.append(Challenge(scheme[1].lower(), parameters))
    return challenges


def choose(challenges: list[Challenge]) -> Challenge | None:
    """The strongest challenge we can answer, or None."""
    for algorithm in ("SHA-256", "MD5"):
        for challenge in challenges:
            qops = challenge.qops
            has_auth = not qops or "auth" in qops  # "auth-int" alone is more than we can do
            if challenge.scheme == "digest" and _algorithm(challenge)[0] == algorithm and has_auth:
                return challenge
    return next((c for c in challenges if c.scheme == "basic"), None)


def authorize(
    challenge: Challenge, credentials: Credentials, *, target: str, count: int, cnonce: str
) -> str:
    """The `Authorization` header for a GET.

    Args:
        challenge: One that `choose` returned.
        credentials: Who we are.
        target: The request's target as sent, path and query.
        count: How many requests used this challenge's nonce, this one included.
        cnonce: A random text, fresh for each request.
    """
    name, password = credentials.username, credentials.password
    if challenge.scheme == "basic":
        return "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()
    given = challenge.parameters
    realm, nonce = given.get("realm", ""), given.get("nonce", "")
    algorithm, session = _algorithm(challenge)

    def hashed(text: str) -> str:
        return _HASHES[algorithm](text.encode()).hexdigest()

    secret = hashed(f"{name}:{realm}:{password}")
    if session:
        secret = hashed(f"{secret}:{nonce}:{cnonce}")
    request = hashed(f"GET:{target}")
    fields = {"username": name, "realm": realm, "nonce": nonce, "uri": target}
    bare = {}
    if "auth" in challenge.qops:
        bare = {"qop": "auth", "nc": f"{count:08x}"}
        fields["cnonce"] = cnonce
        response = hashed(f"{secret}:{nonce}:{bare['nc']}:{cnonce}:auth:{request}")
    else:
        if session:
            fields["cnonce"] = cnonce
        response = hashed(f"{secret}:{nonce}:{request}")
    fields["response"] = response
    if "opaque" in given:
        fields["opaque"] = given["opaque"]
    if "algorithm" in given:
        bare["algorithm"] = given["algorithm"]
    quoted = [f'{key}="{_escaped(value)}"' for key, value in fields.items()]
    return "Digest " + ", ".join([*quoted, *(f"{key}={value}" for key, value in bare.items())])


def _algorithm(challenge: Challenge) -> tuple[str, bool]:
    """The hash a Digest challenge asks for, and whether it is the session form."""
    name = challenge.parameters.get("algorithm", "MD5").upper()
    return name.removesuffix("-SESS"), name.endswith("-SESS")


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"')
