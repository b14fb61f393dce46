"""Slips in a configuration file: what was most likely meant, and what to write."""

import json
import re
from collections.abc import Mapping, Sequence

from mjrelay.configuration import suggestions
from mjrelay.configuration.address import USUAL_PORT
from mjrelay.configuration.redaction import HIDDEN, is_secret_name, redact

_AT_LINE = re.compile(r" ?\((?:at line (\d+), column \d+|at end of document)\)")
_CURLY = str.maketrans(dict.fromkeys("“”„‟«»", '"') | dict.fromkeys("‘’‚", "'"))  # noqa: RUF001
_LOOKS_LIKE_SPACE = re.compile(r"[\xa0\u2000-\u200d\u202f\u2060\u3000\ufeff]")
_HEADER = re.compile(r"\s*(\[\[?)([^\]#]*)")
_AFTER_CAMERA = re.compile(r"^\s*cameras?[\s:/_-]+", re.IGNORECASE)
# A line of JSON, or the head of a table as YAML has it.
_OTHER_FORMAT = re.compile(r"\s*(?:[{}]|[\w\"-]+\s*:\s*\{?\s*$|---\s*$|-\s)")
_OTHER_COMMENT = re.compile(r"\s*(?:[\w.-]+\s*=\s*[^\s\"'][^\"']*\s)?(?://|;|/\*)")
_GOOD_HEADER = re.compile(r"\s*\[\[? *[\w\"'-]+(?: *\. *[\w\"'-]+)* *\]")
_ASSIGNMENT = re.compile(r"\s*([\w.\"'-]+)\s*=\s*(.*?)\s*$")
_OTHER_ASSIGNMENT = re.compile(r"\s*([A-Za-z_]\w*)\s*(?::\s*|\s)\s*(\S.*?)\s*$")
# A value that needs no quotes more: a text, a number, true or false, a list or a table.
_VALUE = re.compile(r"[\"'{].*|\d+(?:\.\d+)?|true|false|\[(?![0-9a-f:]*\]:).*", re.DOTALL)
_WORDS_FOR_TRUTH = {
    **dict.fromkeys(("true", "yes", "on"), "true"),
    **dict.fromkeys(("false", "no", "off"), "false"),
}
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_-]+")

# What options are called elsewhere, by the table they belong to.
_CALLED_ELSEWHERE = {
    "server": {
        **dict.fromkeys(("cors", "cors_origin", "allow_origin"), "cors_origins"),
        **dict.fromkeys(("prefix", "root", "url_prefix", "path"), "base_path"),
    },
    "camera": {
        **dict.fromkeys(("framerate", "frame_rate", "rate", "frames"), "fps"),
        **dict.fromkeys(("resolution", "width", "height"), 'size = "640x480"'),
        **dict.fromkeys(("verify", "verify_ssl", "ssl_verify", "insecure"), "tls_verify"),
        **dict.fromkeys(("on_demand", "demand"), 'mode = "demand"'),
        **dict.fromkeys(("user", "login", "user_name"), "username"),
        **dict.fromkeys(("retry", "retry_delay", "reconnect"), "retry_max"),
        "timeout": "connect_timeout, first_frame_timeout or stall_timeout",
        "pixel_format": "format",
    },
}
_PORTS = ("port", "http_port", "listen_port")
_HOSTS = ("host", "bind", "address", "ip", "listen_address", "interface")
SOURCES = (
    *("url", "uri", "address", "host", "ip", "input", "stream", "stream_url", "snapshot_url"),
    *("device", "path", "video", "src", "rtsp", "mjpeg", "camera"),
)
"""What a camera's source is called elsewhere."""
_COMMANDS = ("command", "exec", "cmd")
_PASSWORDS = ("password", "pass", "passwd", "pwd", "pw", "secret", "passphrase")
_ADDRESS = re.compile(r"\s*((?:https?|rtsps?)://.*?|/dev/\S+)\s*$", re.IGNORECASE)
_INTO_A_FILE = (
    "write the password into a file of its own, such as camera.pw, and here: "
    'password_file = "camera.pw"'
)


def quoted(text: str) -> str:
    """A text as TOML writes it."""
    return json.dumps(text, ensure_ascii=False)


def unknown_option(table: str, key: str, value: object, known: Mapping[str, Sequence[str]]) -> str:
    """What is wrong with an option that there is not.

    Args:
        table: "server", "camera", or empty for one that stands above all tables.
        key: Its name.
        value: Its value, which is shown only where it cannot be a secret.
        known: The options there are, by their table.
    """
    said = _meant(table, key, value)
    if said:
        return said
    for other, options in known.items():
        if other != table and key in options:
            head = "[camera.NAME], such as [camera.printer]" if other == "camera" else f"[{other}]"
            return f"this option belongs below {head}"
    names = list(known.get(table, known))
    meant = _CALLED_ELSEWHERE.get(table, {}).get(key) or suggestions.close_to(key, names)
    return "there is no such option" + (f"; did you mean {meant}?" if meant else "")


def _meant(table: str, key: str, value: object) -> str:  # noqa: PLR0911 - cases
    """What to write for an option that other programs have; empty for none of those."""
    text = value if isinstance(value, str) else ""
    if key in _PORTS:
        port = int(value) if str(value).isdecimal() and len(str(value)) < 6 else USUAL_PORT  # type: ignore[call-overload]  # noqa: PLR2004
        return _listen(f"0.0.0.0:{port}")
    if key in _HOSTS and table != "camera":
        host = f"[{text}]" if ":" in text else text
        host = "" if "@" in host else host
        return _listen(f"{host or '0.0.0.0'}:{USUAL_PORT}")  # noqa: S104 - to be written by hand
    if key in _PASSWORDS:
        return _INTO_A_FILE
    if table != "camera":
        return _table_of_a_camera(key, value)
    if key in SOURCES:
        return f"write source = {quoted(_source(text))}"
    if key in _COMMANDS:
        return f"write source = {quoted(_command(text))}"
    if key == "name":
        name = _NOT_IN_NAMES.sub("-", text).strip("-") or "printer"
        return f"write the name into the head of the table: [camera.{name}]"
    return ""


def _source(text: str) -> str:
    """What to write for a source, without secrets."""
    try:
        suggestions.read_source(text)
    except suggestions.Mistake as mistake:
        return mistake.guess or "http://192.168.1.200:8080/?action=stream"
    except ValueError:
        pass
    return suggestions.shown(text)


def _listen(address: str) -> str:
    return (
        f'write listen = ["{address}"] below [server] (0.0.0.0 lets the whole network watch, '
        "127.0.0.1 this computer only)"
    )


def _command(text: str) -> str:
    try:
        return suggestions.read_source(f"exec:{text}").label
    except ValueError:
        return "exec:ffmpeg -i … -f mjpeg -"


def _table_of_a_camera(key: str, value: object) -> str:
    """What to write for a table that can only be a camera's."""
    if key == "cameras":
        names = [name for name, inner in value.items() if inner] if isinstance(value, dict) else []
        return f"write [camera.{names[0] if names else 'NAME'}] as the head of a camera's table"
    if isinstance(value, dict) and value.keys() & {"source", *SOURCES}:
        return f"write [camera.{_NOT_IN_NAMES.sub('-', key)}]: a camera's table begins like that"
    return ""


def nameless_camera(options: Mapping[str, object], known: Sequence[str]) -> str:
    """What is wrong with a table [camera] that holds options; empty if it holds tables only."""
    odd = {key: value for key, value in options.items() if not isinstance(value, dict)}
    if odd.keys() & {*known, *SOURCES, *_COMMANDS, *_PASSWORDS, *_CALLED_ELSEWHERE["camera"]}:
        return "write [camera.NAME] with a name of your choice, such as [camera.printer]"
    return ""


def cause(text: str, error: Exception) -> tuple[int, str]:
    """Where a text is no TOML, and why.

    Args:
        text: The file's.
        error: What the parser says.

    Returns:
        The number of the line, 0 if it is not known; and what to write, or what the parser says.
    """
    found = _AT_LINE.search(str(error))
    lines = text.split("\n")
    if not found:
        return 0, str(error)
    number = int(found[1]) if found[1] else max(1, len(text.rstrip().split("\n")))
    line = lines[number - 1].partition("\r")[0] if number <= len(lines) else ""
    said = _AT_LINE.sub("", str(error))
    heads = [head[2] for before in lines[:number] if (head := _HEADER.match(before))]
    in_headers = bool(heads) and heads[-1].strip().endswith(".headers")
    return number, _cause_in(line, said, in_headers=in_headers) or said


def _cause_in(line: str, said: str, *, in_headers: bool) -> str:  # noqa: PLR0911 - cases
    """What is wrong in a line, with what to write; empty where we cannot tell.

    Args:
        line: The line.
        said: What the parser says.
        in_headers: Whether it is below the head of a table of headers: each may hold a secret.
    """
    key = line.partition("=")[0]
    is_secret = in_headers or "headers" in key or _is_secret(key)
    if (straight := line.translate(_CURLY)) != line:
        anew = "" if is_secret else f": {_shown(straight)}"
        return f"write straight quotes{anew}"
    if _LOOKS_LIKE_SPACE.search(line):
        return "there is a character that only looks like a space: write the line anew"
    header = _HEADER.match(line)
    if header and not _GOOD_HEADER.match(line):
        return f"the head of a table looks like this: [{_head(header[2])}]"
    if "twice" in said or "overwrite" in said:
        what = "this" if is_secret else _shown(line)
        return f"{what} stands there twice: remove one, or give it another name"
    if _OTHER_COMMENT.match(line):
        return "a comment begins with #"
    if _OTHER_FORMAT.match(line):
        return 'this is another format: write [camera.printer] and, below it, source = "…"'
    if assignment := _ASSIGNMENT.match(line):
        return _cause_in_value(*assignment.groups(), is_secret=is_secret)
    if address := _ADDRESS.match(line):
        return f"write source = {quoted(suggestions.shown(address[1]))}"
    if other := _OTHER_ASSIGNMENT.match(line):
        return f"write {_setting(*other.groups(), is_secret=is_secret)}"
    return ""


def _head(text: str) -> str:
    """A head of a table that can be written, for one that cannot."""
    if "@" in text or "://" in text:
        return "camera.printer"
    parts = _AFTER_CAMERA.sub("camera.", text).split(".")
    return ".".join(_NOT_IN_NAMES.sub("-", part.strip()) for part in parts).strip("-")


def _cause_in_value(key: str, value: str, *, is_secret: bool) -> str:  # noqa: PLR0911 - cases
    """What is wrong in the value of an option."""
    if key in _PASSWORDS:
        return _INTO_A_FILE
    bare = re.sub(r"\s+#.*", "", value)
    if not bare or bare.startswith("#"):
        return f"the value of {key} is missing"
    if truth := _WORDS_FOR_TRUTH.get(bare.lower()):
        return f"write {key} = {truth}"
    if bare[0] in "\"'":
        if bare.count(bare[0]) % 2:
            return f"the closing {bare[0]} is missing behind {key} ="
        if "\\" in bare and bare[0] == '"':
            return f"write each \\ twice behind {key} =, or put the text in '…'"
        return f"there is something behind the closing quote of {key}"
    if bare[-1] in ",;" and bare[0] not in "[{":
        return f"write {_setting(key, bare[:-1], is_secret=is_secret)}, without {bare[-1]}"
    if bare[0] == "[":
        inside = bare.removeprefix("[").removesuffix("]")
        items = [item.strip() for item in inside.split(",") if item.strip()]
        listed = ", ".join(map(_as_value, items))
        return f"write {_setting(key, f'[{listed}]', is_secret=is_secret)}"
    if bare[0] == "{":
        return ""
    return f"put quotes around the value: {_setting(key, bare, is_secret=is_secret)}"


def _as_value(text: str) -> str:
    """A value as TOML writes it: with quotes, unless it has some or is a number."""
    text = text.strip()
    return text if _VALUE.fullmatch(text) else quoted(text)


def _setting(key: str, value: str, *, is_secret: bool) -> str:
    """An option as TOML writes it, without secrets."""
    if is_secret or _is_secret(key):
        return f'{key} = "{HIDDEN}"'
    if _VALUE.fullmatch(value) and value[0] not in "\"'":
        return suggestions.shorten(f"{key} = {redact(value)}")
    quote = value[0] if value[:1] in ("'", '"') and value.endswith(value[0]) else ""
    inside = suggestions.shown(value[1:-1] if quote else value)
    return f"{key} = {f'{quote}{inside}{quote}' if quote else quoted(inside)}"


def _is_secret(key: str) -> bool:
    """Whether nobody may see an option's value; the name of a file with a password is no secret."""
    return is_secret_name(key.replace("password_file", ""))


def _shown(line: str) -> str:
    """A line without secrets."""
    if assignment := _ASSIGNMENT.match(line):
        return _setting(*assignment.groups(), is_secret=False)
    return suggestions.shorten(redact(line.strip()))
