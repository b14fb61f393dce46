"""The modules of mjrelay know each other in one direction only."""

import ast
import re
from pathlib import Path

import pytest

import mjrelay

PACKAGE = Path(mjrelay.__file__).parent
ROOT = Path(__file__).parents[1]
MODULES = sorted(
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
    for path in PACKAGE.rglob("*.py")
)
# What each layer may import, besides itself, of those beside and below it.
ALLOWED = {
    "mjrelay": set[str](),
    "errors": set[str](),
    "pictures": set[str](),
    "configuration": {"errors"},
    "formats": {"errors"},
    "service": {"errors", "configuration"},
    "devices": {"errors", "configuration"},
    "recovery": {"errors"},
    "sources": {
        *("errors", "configuration", "formats", "pictures"),
        *("devices", "recovery", "service"),
    },
    "camera": {"errors", "configuration", "formats", "pictures", "devices", "recovery", "sources"},
    "web": {"errors", "configuration", "formats", "camera", "recovery", "service"},
    "roster": {"configuration", "devices", "service", "sources", "camera"},
    "relay": {"errors", "configuration", "devices", "service", "camera", "roster", "web"},
    "probe": {"errors", "configuration", "formats", "devices", "sources"},
    "installing": {"errors", "configuration"},
    "command_line": {"errors", "configuration"},
    "greeting": {"configuration"},
    "cli": {
        *("errors", "configuration", "command_line", "greeting"),
        *("relay", "web", "probe", "devices", "service", "installing"),
    },
    "__main__": {"cli"},
}


def path_of(module: str) -> Path:
    path = PACKAGE.parent.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def imports(module: str) -> set[str]:
    """Return the full name of each module a module imports, wherever it does."""
    found = set()
    for node in ast.walk(ast.parse(path_of(module).read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.module
            assert not node.level, "imports are absolute"
            inner = {f"{node.module}.{alias.name}" for alias in node.names} & {*MODULES}
            found |= inner or {node.module}
    return found


def layer(module: str) -> str:
    return module.removeprefix("mjrelay.").split(".")[0]


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_from_below(module: str) -> None:
    used = {layer(name) for name in imports(module) if name.split(".")[0] == "mjrelay"}
    assert used <= ALLOWED[layer(module)] | {layer(module), "mjrelay"}


def test_no_layer_reaches_itself_through_another() -> None:
    remaining = {name: below - {name} for name, below in ALLOWED.items()}
    while remaining:
        lowest = {name for name, below in remaining.items() if not below & remaining.keys()}
        assert lowest, f"a circle in {remaining}"
        remaining = {name: below for name, below in remaining.items() if name not in lowest}


def test_the_architecture_page_says_the_same() -> None:
    page = (ROOT / "docs" / "explanation" / "architecture.md").read_text("utf-8")
    section = page.partition("## Imports point one way")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \|(.*)\|$", section, re.MULTILINE)
    told = {name: {*re.findall(r"`(\w+)`", below)} for name, below in rows}
    assert told == {name: below for name, below in ALLOWED.items() if name != "mjrelay"}


@pytest.mark.parametrize("module", [name for name in MODULES if layer(name) == "formats"])
def test_formats_do_no_input_or_output(module: str) -> None:
    banned = {"socket", "ssl", "asyncio", "time", "datetime", "logging", "structlog", "os", "io"}
    assert not {name.split(".")[0] for name in imports(module)} & banned


@pytest.mark.parametrize(
    ("library", "importers"),
    [
        ("v4l2py", {"mjrelay.devices.capture"}),
        ("pyudev", {"mjrelay.devices.udev"}),
        ("PIL", {"mjrelay.pictures"}),
        ("tomli_w", {"mjrelay.cli"}),
        ("argparse", {"mjrelay.command_line"}),
        ("subprocess", {"mjrelay.installing.steps"}),
    ],
)
def test_one_module_knows_a_library(library: str, importers: set[str]) -> None:
    users = {m for m in MODULES if library in {name.split(".")[0] for name in imports(m)}}
    assert users == importers
