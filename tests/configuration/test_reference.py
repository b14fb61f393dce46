"""The shipped mjrelay.toml is the reference: whole, in order, and true."""

import re
import tomllib
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from mjrelay.configuration.address import parse_address
from mjrelay.configuration.tables import CameraConfig, Config, ServerConfig, load_config

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "mjrelay.toml"
CONFIGURATION_PAGE = ROOT / "docs" / "reference" / "configuration.md"

SHOWN_DEFAULT = re.compile(r"^# (?=[a-z_]+ = )", re.MULTILINE)
OPTION = re.compile(r"^(?:# )?([a-z_]+) = (.+)$", re.MULTILINE)


def options_of(kind: type[Any]) -> list[str]:
    return [option.name for option in fields(kind) if option.metadata]


@pytest.fixture
def uncommented(tmp_path: Path) -> Config:
    """The reference with every shown default in force."""
    path = tmp_path / "mjrelay.toml"
    path.write_text(SHOWN_DEFAULT.sub("", REFERENCE.read_text("utf-8")), "utf-8")
    return load_config(path)


def test_it_is_a_configuration_as_shipped() -> None:
    config = load_config(REFERENCE)
    source = parse_address("testcard:")  # so that a run beside it dials nobody
    assert config == Config(cameras={"printer": CameraConfig(source=source)})


def test_every_shown_default_is_the_default(uncommented: Config) -> None:
    as_shipped = load_config(REFERENCE)
    [(name, camera)] = as_shipped.cameras.items()
    # To write `ring` is to have the past kept from the start.
    written = replace(camera, ring_from_start=True)
    assert uncommented == replace(as_shipped, cameras={name: written})


def test_every_option_is_shown_in_order() -> None:
    shown = [name for name, _ in OPTION.findall(REFERENCE.read_text("utf-8"))]
    assert shown == options_of(ServerConfig) + options_of(CameraConfig)


def test_uncommenting_leaves_no_option_out(uncommented: Config) -> None:
    assert uncommented.cameras
    tables = tomllib.loads(SHOWN_DEFAULT.sub("", REFERENCE.read_text("utf-8")))
    assert list(tables["server"]) == options_of(ServerConfig)
    assert list(tables["camera"]["printer"]) == options_of(CameraConfig)


@pytest.mark.parametrize("option", OPTION.findall(REFERENCE.read_text("utf-8")), ids=lambda o: o[0])
def test_the_reference_page_says_the_same(option: tuple[str, str]) -> None:
    name, value = option
    row = f"| `{name}` | " + ("required" if name == "source" else f"`{value}`") + " |"
    assert row in CONFIGURATION_PAGE.read_text("utf-8")
