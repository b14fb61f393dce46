"""Redaction: what people may see of a text that may hold credentials.

Nobody can list every name under which a camera takes a password. So the values in a query are
hidden, but for those of names that are known to be harmless.
"""

import re
import shlex
from collections.abc import Iterable, Sequence
from pathlib import PurePath
from urllib.parse import unquote

HIDDEN = "***"
"""Stands for what is not shown."""

# The user name and password of a URL: from :// to the last @ before a space, if no port number
# follows the colon, since a password may hold any character, not encoded; else to the last @ before
# a slash or question mark. The first search is bounded: it alone can run into further URLs, in a
# text that a camera may have chosen to keep us busy.
_USERINFO = re.compile(r"(?<=://)(?:([^/?#\s:]*:(?!\d{0,9}(?:[/?#\s]|$))\S{0,512})|([^/?#\s]*))@")
# What begins with a user name and a colon, where it stands behind :// and an @ follows.
_USER = re.compile(r"[^/?#@\[]*:")
# A word of a command that is an address with spaces in it.
_SPACED_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]{0,15}://\S*\s", re.IGNORECASE)
# The same without a scheme, as curl takes it.
_BARE_USERINFO = re.compile(r"(?<![\w/:.@*-])([\w.+-]{1,64}:[^\s/@]{1,128})@(?=[\w\[])")
_QUERY = re.compile(r"(?<=\?)\S+")
# A name and its value, or a value alone; what separates them stays.
_PARAMETER = re.compile(r"([^=&;?#]+)(=?)([^&;?#]*)|=([^&;?#]+)")
_HARMLESS_NAME = re.compile(
    r"(?:action|audio|bitrate|brightness|cam|camera|ch|chan|channel|chn|cmd|codec|color|colour|"
    r"command|compression|container|contrast|date|dev|device|duration|fmt|format|fps|frame|"
    r"framerate|fresh|h|height|image|img|index|input|linkincamera|max_age|mirror|mode|mute|"
    r"page|picture|profile|q|quality|rate|req_fps|res|resolution|rotate|rotation|scale|seconds|"
    r"size|snapshot|source|speed|src|stream|streamtype|stream_type|sub|substream|subtype|text|topic|"
    r"track|type|video|video_codec|videocodec|view|w|width)\d{0,2}",
    re.IGNORECASE,
)
# These are harmless with a number: the time, or what keeps a proxy from answering for the camera.
_HARMLESS_NUMBER = re.compile(
    r"(?:id|n|no|nocache|r|rand|random|rnd|t|time|timestamp|ts|x|_)", re.IGNORECASE
)
_HARMLESS_VALUE = re.compile(r"[\w.,:/x*+-]{0,40}", re.ASCII)
_NUMBER = re.compile(r"[\d.-]*", re.ASCII)
# Numbers and sizes, such as 640x480.
_NUMBERS = re.compile(r"(?:[\W\d_]|(?<=\d)x(?=\d))*", re.ASCII)
# A sentence may go on after an address.
_PUNCTUATION = "'\")]}>,.:"
# What is called a password is one, in any text; the name of a file with one is none.
_CONFIDENTIAL = (
    r"(?:pass|pwd|token|secret|credential|api[_-]?key|auth(?:key|code|orization)|session|bearer|"
    r"user-pw|loginpas)"
)
# What is called so in a table is one: an option, or a header.
_SECRET_NAME = re.compile(
    r"auth|cookie|token|secret|key|pw\b|pass|session|credential", re.IGNORECASE
)
_NAMED_SECRET = re.compile(
    rf"(?<![\w-])([\w-]{{0,24}}{_CONFIDENTIAL}[\w-]{{0,24}}(?<!file)[ ]?[=:][ ]?)"
    r"(?!\*\*\*)(\"[^\"]{0,500}\"|'[^']{0,500}'|[^\s&;?#,]+)",
    re.IGNORECASE,
)
_HEADER = re.compile(
    r"(?<![\w-])((?:proxy-)?authorization|(?:set-)?cookie2?)(:[ \t]*)([^\r\n]+)", re.IGNORECASE
)
# Options of programs whose values are secrets: curl's -u and -H among them.
_SECRET_OPTION = re.compile(
    r"-{1,2}(?:u|U|H|headers?|user|login|pw|data[\w-]*|form[\w-]*|json|"
    r"[\w-]*(?:pass|pwd|token|secret|auth|cookie|bearer|credential|key(?!int|frame))[\w-]*)",
    re.IGNORECASE,
)
# The same with the value in the same word.
_ATTACHED = re.compile(r"(-[uUH])([^:]+:.*)", re.DOTALL)
# curl takes several letters behind one dash; those before the last one take no value.
_CURL_ATTACHED = re.compile(r"(-[fgijklnpqsvBGILMNORSV0-9#]*[uUHbEdF])(.*)", re.DOTALL)
_SSHPASS_ATTACHED = re.compile(r"(-p)(.*)", re.DOTALL)
_ATTACHED_OF = {"curl": _CURL_ATTACHED, "sshpass": _SSHPASS_ATTACHED}
# A setting among the words of a command, as in PASSWORD=… or user-pw=…; no file is secret itself.
_SECRET_SETTING = re.compile(rf"[\w-]*{_CONFIDENTIAL}[\w-]*(?<!file)", re.IGNORECASE)
# The words of a command within a word, as of `sh -c`, and what is between them.
_SHELL_WORD = re.compile(r"\s+|(?:[^\s\"']|\"[^\"]*\"|'[^']*'|[\"'])+")
# A word that needs no quotes, where no shell runs.
_PLAIN_WORD = re.compile(r"[^\s\"'\\]+")
# Shorter ones would hide half of every text.
_SHORTEST_SECRET = 3


def redact(text: str) -> str:
    """The text without the credentials in it: those in URLs, headers and `password=…`."""
    return _Redaction().of_text(text)


def redact_address(text: str) -> str:
    """The text, which is one address though there may be spaces in it, without credentials."""
    return _Redaction().of_address(text)


def is_secret_name(name: str) -> bool:
    """Whether nobody may see the value of what is called so."""
    return bool(_SECRET_NAME.search(name))


class CommandRedaction:
    """A command as people may see it.

    Attributes:
        words: Its words without secrets, quoted as for a shell.
    """

    def __init__(self, arguments: Sequence[str]) -> None:
        redaction = _Redaction()
        words = redaction.of_words(arguments)
        self.words = [w if _PLAIN_WORD.fullmatch(w) else shlex.quote(w) for w in words]
        self._secrets = sorted(_spellings(redaction.hidden), key=len, reverse=True)

    def redact(self, text: str) -> str:
        """What the command said, without any secret: programs like to repeat their arguments."""
        for secret in self._secrets:
            text = text.replace(secret, HIDDEN)
        return redact(text)


def _spellings(secrets: Iterable[str]) -> set[str]:
    """The ways in which secrets may be said: user name and password apart, and decoded."""
    found = set()
    for secret in secrets:
        whole = secret.strip("\"'")
        for spelling in (whole, *re.split(r"[:=]\s*|\s+", whole, maxsplit=1)):
            found |= {spelling, unquote(spelling)}
    return {spelling for spelling in found if len(spelling) >= _SHORTEST_SECRET}


class _Redaction:
    """Hides secrets, and remembers them.

    Attributes:
        hidden: The secrets found so far.
    """

    def __init__(self) -> None:
        self.hidden: set[str] = set()
        self._programs: set[str] = set()

    def _hide(self, secret: str) -> str:
        if secret != HIDDEN:
            self.hidden.add(secret)
        return HIDDEN

    def of_text(self, text: str) -> str:
        """The text without credentials."""
        text = _USERINFO.sub(self._of_userinfo, text)
        text = _BARE_USERINFO.sub(lambda found: self._hide(found[1]) + "@", text)
        text = _QUERY.sub(lambda found: _PARAMETER.sub(self._of_parameter, found[0]), text)
        text = _HEADER.sub(self._of_header, text)
        return _NAMED_SECRET.sub(lambda found: found[1] + self._hide(found[2]), text)

    def _of_userinfo(self, found: re.Match[str]) -> str:
        userinfo = found[1] or found[2] or ""
        return f"{self._hide(userinfo)}@" if userinfo else found[0]

    def of_address(self, text: str) -> str:
        """An address without credentials, and with its spaces encoded."""
        scheme, separator, rest = text.partition("://")
        rest = re.sub(r"\s", "%20", rest)
        userinfo, at, host = rest.rpartition("@")
        if at and _USER.match(rest):
            rest = f"{self._hide(userinfo)}@{host}"
        return self.of_text(scheme + separator + rest)

    def _of_header(self, found: re.Match[str]) -> str:
        """A header that lets us in; of a cookie that is set, its name and how long it lasts."""
        head, value = found[1] + found[2], found[3]
        if not found[1].lower().startswith("set-"):
            return head + self._hide(value)
        cookie, semicolon, attributes = value.partition(";")
        name, equals, secret = cookie.partition("=")
        shown = f"{name}={self._hide(secret)}" if equals else self._hide(cookie)
        return head + shown + semicolon + attributes

    def _of_parameter(self, found: re.Match[str]) -> str:
        """A parameter of a query, with its value if that is harmless."""
        name, equals, value = found[1] or "", found[2] or "", found[3] or ""
        if found[4]:
            return "=" + self._hide(found[4])
        if not equals:
            word = name.rstrip(_PUNCTUATION)
            return name if _is_harmless_word(word) else self._hide(word) + name[len(word) :]
        word = value.rstrip(_PUNCTUATION)
        shown = word if not word or _is_harmless(name, word) else self._hide(word)
        return f"{name}={shown}{value[len(word) :]}"

    def of_words(self, words: Iterable[str]) -> list[str]:
        """The words of a command without secrets."""
        shown = []
        hide_next = False
        for word in words:
            if word.isspace():
                shown.append(word)
            elif hide_next:
                shown.append(self._hide(word))
                hide_next = False
            else:
                text, hide_next = self._of_word(word)
                shown.append(text)
        return shown

    def _of_word(self, word: str) -> tuple[str, bool]:
        """A word without secrets, and whether the next one is a secret."""
        self._programs.add(PurePath(word).name)
        if _SPACED_ADDRESS.match(word):
            return self.of_address(word), False
        if re.search(r"\s", word) and not word.startswith("-"):
            return self._of_script(word), False
        name, equals, value = word.partition("=")
        if _SECRET_OPTION.fullmatch(name):
            return (f"{name}={self._hide(value)}", False) if equals else (word, True)
        if equals and _SECRET_SETTING.fullmatch(name):
            secret = value.rstrip(";")
            return f"{name}={self._hide(secret)}{value[len(secret) :]}", False
        patterns = [p for program, p in _ATTACHED_OF.items() if program in self._programs]
        for pattern in (_ATTACHED, *patterns):
            if found := pattern.fullmatch(word):
                return (found[1] + self._hide(found[2]), False) if found[2] else (word, True)
        return (self.of_address if "://" in word else self.of_text)(word), False

    def _of_script(self, script: str) -> str:
        """A text that holds a command, as for `sh -c`, without its secrets."""
        words = _SHELL_WORD.findall(script)
        if len(words) > 1:
            return self.of_text("".join(self.of_words(words)))
        quote = script[0]
        if quote in "\"'" and script.endswith(quote):
            [inside] = self.of_words([script[1:-1]])
            return quote + inside + quote
        return self.of_text(script)


def _is_harmless(name: str, value: str) -> bool:
    """Whether a parameter of a query may be seen."""
    if _HARMLESS_NUMBER.fullmatch(name):
        return bool(_NUMBER.fullmatch(value))
    return bool(_HARMLESS_NAME.fullmatch(name) and _HARMLESS_VALUE.fullmatch(value))


def _is_harmless_word(word: str) -> bool:
    """Whether a word alone in a query may be seen: a known name, a number or a size."""
    return bool(_HARMLESS_NAME.fullmatch(word) or _NUMBERS.fullmatch(word))
