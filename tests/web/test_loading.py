"""Loading the web server costs no more than it must, and changes nothing for others."""

import json
import subprocess
import sys

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


def test_certificates_are_read_for_who_needs_them_only() -> None:
    said = json.loads(subprocess.check_output([sys.executable, "-c", PROGRAM], text=True))
    assert said["unused"] == 0
    assert said["ours"] > 0, "else this test shows nothing"
    assert said["kept"]
