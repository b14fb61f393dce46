"""The documentation is true where a program can tell: links, commands, configurations, events."""

import re
import shlex
import textwrap
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest

import mjrelay
from mjrelay.camera.condition import State
from mjrelay.command_line import UsageError, make_parser
from mjrelay.configuration.address import parse_address
from mjrelay.configuration.tables import load_config

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")],
    key=lambda page: str(page.relative_to(ROOT)),
)

PICTURES = sorted((ROOT / "docs" / "pictures").iterdir())

_FENCE = re.compile(r"^( *)(```+)(\w*)[^\n]*\n(.*?)^\1\2 *$", re.MULTILINE | re.DOTALL)
_INLINE_CODE = re.compile(r"`([^`\n]+)`")
_LINK = re.compile(r"!?\[[^\]]*\]\(([^()\s]+)\)")
_HEADING = re.compile(r"^#{1,6} +(.+?) *$", re.MULTILINE)
# The host of an address, where a word in capitals stands for it.
_STANDS_FOR_A_HOST = re.compile(
    r"\b(?:https?|rtsps?)://(?P<login>[^\s/@]*@)?(?P<word>[A-Z][A-Z0-9-]*)\b(?P<port>:PORT)?(?![\w.])"
)
_EVENT = re.compile(r'\blog\.(?:debug|info|warning|error|exception)\(\s*"([a-z_.]+)"')


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def prose(page: Path) -> str:
    """A page without its code blocks."""
    return _FENCE.sub("", page.read_text("utf-8"))


def blocks(page: Path, *languages: str) -> Iterator[str]:
    for indent, _, language, text in _FENCE.findall(page.read_text("utf-8")):
        if language in languages:
            yield textwrap.dedent(text) if indent else text


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub and its like give a page's headings."""
    seen: dict[str, int] = {}
    found = set()
    for heading in _HEADING.findall(prose(page)):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        slug = re.sub(r"[^\w\- ]", "", text).replace(" ", "-")
        count = seen.get(slug, 0)
        seen[slug] = count + 1
        found.add(f"{slug}-{count}" if count else slug)
    return found


def relative_links() -> Iterator[tuple[Path, str]]:
    for page in PAGES:
        for link in _LINK.findall(prose(page)):
            if not re.match(r"[a-z]+:", link):
                yield page, link


def command_lines() -> Iterator[tuple[Path, str]]:
    """Every `mjrelay …` that a reader may copy: in code blocks, and whole in backticks."""
    for page in PAGES:
        for block in blocks(page, "sh", "console", "text", "ini"):
            for line in block.replace("\\\n", " ").splitlines():
                line = re.sub(r"^(\$ |# |ExecStart=)?(sudo )?(-u \S+ )?", "", line.strip())  # noqa: PLW2901
                if re.match(r"(\S*/)?mjrelay (run|check|probe|devices|reset|--)", line):
                    yield page, line
        for code in _INLINE_CODE.findall(prose(page)):
            if code.startswith("mjrelay "):
                yield page, code


def words_for_hosts(text: str) -> set[str]:
    """What the reader has to replace in addresses, but for `HOST` in the grammar of one."""
    return {
        found["word"]
        for found in _STANDS_FOR_A_HOST.finditer(text)
        if not (found["word"] == "HOST" and (found["login"] or found["port"]))
    }


def texts() -> list[Path]:
    """Everything that people read: pages, configurations, and the program with its messages."""
    program = Path(mjrelay.__file__).parent
    return [
        *PAGES,
        *sorted(program.rglob("*.py")),
        ROOT / "mjrelay.toml",
        *sorted((ROOT / "systemd").glob("*.*")),
    ]


def toml_blocks() -> Iterator[tuple[Path, str]]:
    for page in PAGES:
        for block in blocks(page, "toml"):
            yield page, block


def sources() -> Iterator[tuple[Path, str]]:
    """The sources in commands of pages, with the camera's address filled in."""
    for page, line in command_lines():
        command = re.split(r"\s(?:#|\||2?>|&&)\s?", line)[0]
        for word in shlex.split(command)[2:]:
            source = re.sub(r"^\w+=(?=\w+:)", "", word)
            if re.match(r"(https?|exec|usb|testcard):|/dev/", source):
                yield page, source.replace("PRINTER", "192.168.1.200")


def logged_events() -> set[str]:
    events = {f"camera.{state}" for state in get_args(State)}
    for path in Path(mjrelay.__file__).parent.rglob("*.py"):
        events.update(_EVENT.findall(path.read_text("utf-8")))
    return events


@pytest.mark.parametrize(
    ("page", "link"), [pytest.param(p, x, id=f"{name_of(p)}-{x}") for p, x in relative_links()]
)
def test_links_lead_somewhere(page: Path, link: str) -> None:
    path, _, anchor = link.partition("#")
    target = (page.parent / path).resolve() if path else page
    assert target.is_relative_to(ROOT)
    assert target.exists()
    if anchor:
        assert anchor in anchors(target)


@pytest.mark.parametrize(
    ("page", "line"), [pytest.param(p, x, id=f"{name_of(p)}-{x}") for p, x in command_lines()]
)
def test_commands_are_commands(page: Path, line: str) -> None:
    # As a shell would: drop what comes after the command itself.
    command = re.split(r"\s(?:#|\||2?>|&&)\s?", line)[0]
    _, *arguments = shlex.split(command)
    if arguments[-1] in ("--help", "--version"):
        arguments = arguments[:-1]
        if not arguments:
            return
    if arguments in (["run"], ["check"], ["probe"], ["devices"], ["reset"]):
        return  # the command's name, in a sentence
    try:
        make_parser().parse_args(arguments)
    except (UsageError, SystemExit):
        pytest.fail(f"{name_of(page)}: not understood: {command}")


@pytest.mark.parametrize("source", [pytest.param(x, id=f"{name_of(p)}-{x}") for p, x in sources()])
def test_sources_of_commands_are_sources(source: str) -> None:
    parse_address(source)


@pytest.mark.parametrize(
    ("page", "text"),
    [pytest.param(p, x, id=f"{name_of(p)}-{i}") for i, (p, x) in enumerate(toml_blocks())],
)
def test_configurations_have_no_faults(page: Path, text: str, tmp_path: Path) -> None:
    tables: dict[str, Any] = tomllib.loads(text)
    for name, camera in tables.get("camera", {}).items():
        headers = camera.get("headers", {}).values()
        in_files = [header["file"] for header in headers if isinstance(header, dict)]
        for secret in filter(None, [camera.get("password_file"), *in_files]):
            path = tmp_path / Path(secret).name
            path.write_text("secret\n", "utf-8")
            text = text.replace(f'"{secret}"', f'"{path}"')
        assert "source" in camera, f"{name_of(page)}: [camera.{name}] without a source"
    if "camera" not in tables:
        text += '\n[camera.any]\nsource = "testcard:"\n'
        for name in tables.get("server", {}).get("camera_listen", {}):
            text += f'\n[camera.{name}]\nsource = "testcard:"\n'
    path = tmp_path / "mjrelay.toml"
    path.write_text(text, "utf-8")
    load_config(path)


@pytest.mark.parametrize("event", sorted(logged_events()))
def test_every_event_is_documented(event: str) -> None:
    assert f"`{event}`" in (ROOT / "docs" / "reference" / "logging.md").read_text("utf-8")


@pytest.mark.parametrize("path", [pytest.param(path, id=path.name) for path in texts()])
def test_two_words_stand_for_addresses(path: Path) -> None:
    # The camera's, and that of the computer with mjrelay: a reader learns them once. The program
    # itself says HOST for any.
    allowed = {"PRINTER", "MJRELAY"} | ({"HOST"} if path.suffix == ".py" else set())
    assert words_for_hosts(path.read_text("utf-8")) <= allowed


def test_words_that_stand_for_addresses_are_found() -> None:
    text = "http://THE-ROBOT:8080/ rtsp://YOUR-HOST/live http://PRINTER:81/stream https://u:p@NAS/x"
    assert words_for_hosts(text) == {"THE-ROBOT", "YOUR-HOST", "PRINTER", "NAS"}
    assert words_for_hosts("http://HOST/x http://HOST:8080/") == {"HOST"}
    grammar = "http://HOST:PORT/PATH?QUERY http://USER:PASSWORD@HOST/… http://192.168.1.200/"
    assert not words_for_hosts(grammar)


def test_every_page_is_found_from_the_first_one() -> None:
    index = ROOT / "docs" / "README.md"
    listed = {
        (page.parent / link.partition("#")[0]).resolve()
        for page, link in relative_links()
        if page == index
    }
    assert set(index.parent.rglob("*.md")) - {index} <= listed


@pytest.mark.parametrize("picture", PICTURES)
def test_pictures_are_small_and_shown(picture: Path) -> None:
    assert picture.stat().st_size < 60_000
    assert picture in {(page.parent / link).resolve() for page, link in relative_links()}


def test_the_log_has_events() -> None:
    assert {"camera.streaming", "camera.crashed", "relay.started"} <= logged_events()


def test_there_are_pages_commands_and_configurations() -> None:
    assert len(PAGES) > 10
    assert len([*command_lines()]) > 10
    assert len([*toml_blocks()]) > 5
