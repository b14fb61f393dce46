"""The pages about the inside are true where a program can tell: files, names, states."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from mjrelay.camera.condition import TRANSITIONS
from tests.test_docs import ROOT, prose
from tests.test_layers import PACKAGE

INSIDE = [
    ROOT / "docs" / "explanation" / name
    for name in ("architecture.md", "life-of-a-failure.md", "life-of-a-frame.md")
]

_CODE = re.compile(r"`([^`\n]+)`")
_FILE = re.compile(r"[a-z0-9_]+/([a-z0-9_/]*(\.py)?)|[a-z0-9_]+\.py")
_MEMBER = re.compile(r"[A-Z]\w*\.[a-z_]+")


def codes() -> Iterator[tuple[Path, str]]:
    """Every file of mjrelay, and every `Class.name`, that the pages tell of."""
    for page in INSIDE:
        for code in dict.fromkeys(_CODE.findall(prose(page))):
            if _FILE.fullmatch(code) or _MEMBER.fullmatch(code):
                yield page, code


@cache
def members() -> set[str]:
    """Every `Class.name` in the code: methods, attributes, and the names in a class's body."""
    found = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ClassDef):
                for each in ast.walk(node):
                    name = getattr(each, "name", getattr(each, "attr", getattr(each, "id", "")))
                    found.add(f"{node.name}.{name}")
    return found


@pytest.mark.parametrize(
    ("page", "code"), [pytest.param(p, x, id=f"{p.name}-{x}") for p, x in codes()]
)
def test_pages_tell_of_code_that_is_there(page: Path, code: str) -> None:
    if _MEMBER.fullmatch(code):
        assert code in members(), f"{page.name}: no {code}"
    else:
        parts = (path for path in PACKAGE.rglob("*/") if path.is_dir())
        folders = (ROOT, PACKAGE.parent, PACKAGE, *parts)
        assert any((folder / code).exists() for folder in folders), f"{page.name}: no {code}"


def test_the_pages_tell_of_code() -> None:
    assert len([*codes()]) > 50


def test_the_states_and_what_may_follow_them_are_documented() -> None:
    recovery = (ROOT / "docs" / "explanation" / "recovery.md").read_text("utf-8")
    section = recovery.partition("## The states")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \|(.*)\|$", section, re.MULTILINE)
    assert {state: {*_CODE.findall(others)} for state, others in rows} == TRANSITIONS


def test_the_states_are_explained() -> None:
    http = (ROOT / "docs" / "reference" / "http.md").read_text("utf-8")
    section = http.partition("### States")[2].partition("\n## ")[0]
    assert {*re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)} == {*TRANSITIONS}
