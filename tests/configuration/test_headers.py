"""The option `headers`: what is sent, what is secret, what is refused."""

from pathlib import Path

import pytest

from mjrelay.configuration.tables import CameraConfig, dump, load_config
from mjrelay.errors import ConfigError


def load(folder: Path, headers: str) -> CameraConfig:
    path = folder / "mjrelay.toml"
    path.write_text(f'[camera.front]\nsource = "http://front/"\nheaders = {headers}\n')
    return load_config(path).cameras["front"]


def fault(folder: Path, headers: str) -> str:
    with pytest.raises(ConfigError) as raised:
        load(folder, headers)
    [said] = raised.value.faults
    return said.removeprefix(f"{folder}/mjrelay.toml:3: camera.front.headers")


def test_a_header_is_what_is_written(tmp_path: Path) -> None:
    headers = load(tmp_path, '{ Referer = "http://front/", "X-Note" = "ü" }').headers
    assert {name: header.value for name, header in headers.items()} == {
        "Referer": "http://front/",
        "X-Note": "ü",
    }
    assert not any(header.is_secret for header in headers.values())


def test_a_file_beside_the_configuration_holds_a_secret(tmp_path: Path) -> None:
    (tmp_path / "bearer.txt").write_text("Bearer hunter2\n")
    camera = load(tmp_path, '{ X-Any = { file = "bearer.txt" } }')
    assert camera.headers["X-Any"].value == "Bearer hunter2"
    assert camera.headers["X-Any"].is_secret
    assert "hunter2" not in repr(camera)


def test_a_credential_of_systemd_goes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    (credentials / "bearer.txt").write_text("Bearer credential\n")
    (tmp_path / "bearer.txt").write_text("Bearer beside\n")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(credentials))
    camera = load(tmp_path, '{ Authorization = { file = "bearer.txt" } }')
    assert camera.headers["Authorization"].value == "Bearer credential"


def test_what_a_file_holds_now_is_another_configuration(tmp_path: Path) -> None:
    """So that a reload opens the camera anew."""
    (tmp_path / "bearer.txt").write_text("Bearer one")
    before = load(tmp_path, '{ Authorization = { file = "bearer.txt" } }')
    (tmp_path / "bearer.txt").write_text("Bearer two")
    assert before != load(tmp_path, '{ Authorization = { file = "bearer.txt" } }')


@pytest.mark.parametrize(
    "name", ["Authorization", "cookie", "X-Api-Key", "X-Auth-Token", "Proxy-Authorization"]
)
def test_a_dump_shows_no_secret(tmp_path: Path, name: str) -> None:
    camera = load(tmp_path, f'{{ {name} = "hunter2", Referer = "http://front/?p=hunter2" }}')
    assert camera.headers[name].is_secret
    assert "hunter2" not in repr(camera)
    path = tmp_path / "mjrelay.toml"
    shown = dump(load_config(path))["camera"]["front"]["headers"]
    assert shown == {name: "***", "Referer": "http://front/?p=***"}


def test_a_dump_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "bearer.txt").write_text("Bearer hunter2")
    load(tmp_path, '{ Authorization = { file = "bearer.txt" } }')
    shown = dump(load_config(tmp_path / "mjrelay.toml"))["camera"]["front"]["headers"]
    assert shown == {"Authorization": {"file": "bearer.txt"}}


@pytest.mark.parametrize(
    ("headers", "said"),
    [
        ('"Referer: x"', 'expected a table such as { "Referer" ='),
        ('{ "A B" = "x" }', "expected names of letters, digits and -"),
        ('{ "A:" = "x" }', "expected names of letters, digits and -"),
        ('{ "A\\r\\nB" = "x" }', "expected names of letters, digits and -"),
        ('{ "" = "x" }', "expected names of letters, digits and -"),
        ('{ A = "x\\r\\nB: hunter2" }', "for A a text of one line"),
        ('{ A = "x\\u0000hunter2" }', "for A a text of one line"),
        ("{ A = 5 }", "for A a text in quotes, or { file ="),
        ("{ A = { file = 5 } }", "for A a text in quotes, or { file ="),
        ('{ A = { file = "" } }', "for A a text in quotes, or { file ="),
        ('{ A = { file = "a", more = "hunter2" } }', "for A a text in quotes, or { file ="),
        ('{ A = "x", a = "y" }', "each header once, and A is there twice"),
        *(
            (f'{{ {name} = "x" }}', f"other headers than {name}, which mjrelay must set itself")
            for name in ("Host", "connection", "Content-Length", "Transfer-Encoding", "Range")
        ),
    ],
)
def test_a_mistake_is_explained(tmp_path: Path, headers: str, said: str) -> None:
    explained = fault(tmp_path, headers)
    assert said in explained
    assert "hunter2" not in explained


@pytest.mark.parametrize("content", [b"", b"\n", b"a\nb\n", b"\0", b"\xff"])
def test_a_file_that_holds_no_header_is_a_fault_with_its_path(
    tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "bearer.txt").write_bytes(content)
    explained = fault(tmp_path, '{ Authorization = { file = "bearer.txt" } }')
    assert explained.startswith(f".Authorization: cannot read {tmp_path}/bearer.txt: it ")


def test_a_file_that_is_not_there_is_a_fault_with_its_path(tmp_path: Path) -> None:
    explained = fault(tmp_path, '{ Authorization = { file = "bearer.txt" } }')
    assert explained == (
        f".Authorization: cannot read {tmp_path}/bearer.txt: No such file or directory"
    )


def test_authorization_and_a_user_name_exclude_each_other(tmp_path: Path) -> None:
    explained = fault(tmp_path, '{ authorization = "Bearer x" }\nusername = "me"')
    assert explained == ": Authorization is set here and by username: remove one of them"
