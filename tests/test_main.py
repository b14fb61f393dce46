"""The program starts, or says in a sentence why it does not."""

import builtins
import sys
from typing import Any

import pytest

from mjrelay import __main__, __version__


def test_it_runs_what_is_typed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["mjrelay", "--version"])
    with pytest.raises(SystemExit) as ended:
        __main__.start()
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"mjrelay {__version__}\n"


def test_ctrl_c_while_modules_are_loaded_is_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_arguments: Any, **_options: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(builtins, "__import__", interrupt)
        with pytest.raises(SystemExit) as ended:
            __main__.start()
    assert ended.value.code == 130


def test_a_library_that_is_missing_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mjrelay.cli", None)
    with pytest.raises(SystemExit) as ended:
        __main__.start()
    assert str(ended.value.code).startswith("mjrelay is not installed completely: ")
