"""What the world sees: streams, snapshots, status and the page.

aiohttp is loaded here. Its client, which we never use, reads all certificates this computer trusts
as it is loaded: a third of the time we take to start, and 2 MB (measured). It finds none instead.
"""

import importlib
import os
import ssl

_PLACES = ssl.get_default_verify_paths()
_VARIABLES = (_PLACES.openssl_cafile_env, _PLACES.openssl_capath_env)

_set = {name: os.environ.get(name) for name in _VARIABLES}
os.environ.update(dict.fromkeys(_VARIABLES, os.devnull))
try:
    importlib.import_module("aiohttp")
finally:
    for _name, _value in _set.items():
        if _value is None:
            del os.environ[_name]
        else:
            os.environ[_name] = _value
