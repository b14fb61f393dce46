"""Loading the web server costs no more than it must, and changes nothing for others."""

import json
import os
import ssl
import subprocess
import sys
from pathlib import Path

import pytest
import trustme

PROGRAM = """\
import json, os, ssl
before = dict(os.environ)
import mjrelay.web
from aiohttp import connector
print(json.dumps({
    "unused": len(connector._SSL_CONTEXT_VERIFIED.get_ca_certs()),
    "ours": len(ssl.create_default_context().get_ca_certs()),
    "kept": dict(os.environ) == before,
}))
"""
FILE, FOLDER = ssl.get_default_verify_paths()[2], ssl.get_default_verify_paths()[4]


@pytest.mark.parametrize("is_set", [True, False])
def test_certificates_are_read_for_who_needs_them_only(tmp_path: Path, is_set: bool) -> None:
    trusted = tmp_path / "trusted.pem"
    trustme.CA().cert_pem.write_to_path(trusted)
    environment = {name: value for name, value in os.environ.items() if name not in (FILE, FOLDER)}
    if is_set:
        environment[FILE] = str(trusted)
    said = json.loads(
        subprocess.check_output([sys.executable, "-c", PROGRAM], env=environment, text=True)
    )
    assert said["unused"] == 0
    assert said["kept"]
    if is_set:
        assert said["ours"] == 1
