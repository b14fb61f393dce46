"""Passwords are asked for in many ways; each is answered as its standard says."""

import hashlib
import urllib.request
from base64 import b64decode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mjrelay.formats.authorization import (
    BASIC,
    Challenge,
    Credentials,
    Login,
    authorize,
    choose,
    parse_challenges,
)

MUFASA = Credentials("Mufasa", "Circle of Life")
NONCE = "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v"
CNONCE = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ"
OPAQUE = "FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS"
OFFER = f'realm="http-auth@example.org", qop="auth, auth-int", nonce="{NONCE}", opaque="{OPAQUE}"'
MD5, SHA256 = f"Digest {OFFER}, algorithm=MD5", f"Digest {OFFER}, algorithm=SHA-256"
TARGET = "/dir/index.html"


def reply(
    *headers: str,
    credentials: Credentials = MUFASA,
    target: str = TARGET,
    count: int = 1,
    cnonce: str = CNONCE,
) -> str:
    """Return the Authorization header for what a camera asks."""
    challenge = choose(parse_challenges([*headers]))
    assert challenge
    return authorize(challenge, credentials, target=target, count=count, cnonce=cnonce)


def fields(header: str) -> dict[str, str]:
    """Read a Digest answer with the standard library's parser."""
    scheme, _, rest = header.partition(" ")
    assert scheme == "Digest"
    return urllib.request.parse_keqv_list(urllib.request.parse_http_list(rest))


def md5(text: str) -> str:
    return hashlib.md5(text.encode()).hexdigest()


REQUEST = md5(f"GET:{TARGET}")


# Known answers


@pytest.mark.parametrize(
    ("header", "response"),
    [
        (MD5, "8ca523f5e9506fed4657c9700eebdbec"),
        (SHA256, "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
    ],
)
def test_the_examples_of_rfc_7616_are_answered_as_there(header: str, response: str) -> None:
    assert fields(reply(header)) == {
        "username": "Mufasa",
        "realm": "http-auth@example.org",
        "uri": TARGET,
        "algorithm": header.rpartition("=")[2],
        "nonce": NONCE,
        "nc": "00000001",
        "cnonce": CNONCE,
        "qop": "auth",
        "response": response,
        "opaque": OPAQUE,
    }


def test_the_example_of_rfc_7616_with_another_hash_is_unknown() -> None:
    header = (
        'Digest realm="api@example.org", qop="auth", algorithm=SHA-512-256, '
        'nonce="5TsQWLVdgBdmrQ0XsxbDODV+57QdFR34I9HAbC/RVvkK", '
        'opaque="HRPCssKJSGjCrkzDg8OhwpzCiGPChXYjwrI2QmXDnsOS", charset=UTF-8, userhash=true'
    )
    [challenge] = parse_challenges([header])
    assert challenge.parameters["algorithm"] == "SHA-512-256"
    assert choose([challenge]) is None


def test_what_would_sign_the_body_alone_is_unknown() -> None:
    signed = f'Digest realm="r", nonce="{NONCE}", qop="auth-int"'
    assert choose(parse_challenges([signed])) is None
    assert choose(parse_challenges([signed, MD5])) == parse_challenges([MD5])[0]
    assert reply(signed, 'Basic realm="r"').startswith("Basic ")


@pytest.mark.parametrize(
    "qop", ['"AUTH"', "auth", '"auth-int,auth"', '"auth-int auth"', '"x, auth"']
)
def test_what_signs_the_request_is_found_among_others(qop: str) -> None:
    assert fields(reply(f'Digest realm="r", nonce="{NONCE}", qop={qop}'))["qop"] == "auth"


@pytest.mark.parametrize(
    ("stale", "expected"),
    [(", stale=true", True), (', stale="TRUE"', True), (", stale=false", False), ("", False)],
)
def test_a_challenge_says_whether_the_nonce_was_stale(stale: str, expected: bool) -> None:
    [challenge] = parse_challenges([f'Digest realm="r", nonce="{NONCE}"{stale}'])
    assert challenge.is_stale is expected


def test_the_example_of_rfc_2617_is_answered_as_there() -> None:
    header = (
        'Digest realm="testrealm@host.com", qop="auth,auth-int", '
        'nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093", opaque="5ccc069c403ebaf9f0171e9517f40e41"'
    )
    credentials = Credentials("Mufasa", "Circle Of Life")
    given = fields(reply(header, credentials=credentials, cnonce="0a4f113b"))
    assert given["response"] == "6629fae49393a05397450978507c4ef1"
    assert "algorithm" not in given


def test_the_example_of_rfc_2069_is_answered_as_there() -> None:
    header = (
        'Digest realm="testrealm@host.com", nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093", '
        'opaque="5ccc069c403ebaf9f0171e9517f40e41"'
    )
    given = fields(reply(header, credentials=Credentials("Mufasa", "CircleOfLife")))
    assert given["response"] == "1949323746fe6a43ef61f9606e7febea"
    assert not {"qop", "nc", "cnonce"} & given.keys()


def test_the_session_form_hashes_both_nonces_into_the_secret() -> None:
    given = fields(reply(MD5.replace("algorithm=MD5", "algorithm=MD5-sess")))
    secret = md5(f"{md5('Mufasa:http-auth@example.org:Circle of Life')}:{NONCE}:{CNONCE}")
    request = md5(f"GET:{TARGET}")
    assert given["response"] == md5(f"{secret}:{NONCE}:00000001:{CNONCE}:auth:{request}")
    assert given["algorithm"] == "MD5-sess"


def test_the_session_form_without_qop_still_tells_its_cnonce() -> None:
    given = fields(reply(f'Digest realm="r", nonce="{NONCE}", algorithm="md5-sess"'))
    secret = md5(f"{md5('Mufasa:r:Circle of Life')}:{NONCE}:{CNONCE}")
    assert given["response"] == md5(f"{secret}:{NONCE}:{md5(f'GET:{TARGET}')}")
    assert given["cnonce"] == CNONCE


class UrllibDigest(urllib.request.AbstractDigestAuthHandler):
    """The standard library's answer to Digest, with the cnonce of these tests."""

    def get_cnonce(self, nonce: str) -> str:  # noqa: ARG002 - overrides
        return CNONCE


@pytest.mark.parametrize("qop", [None, "auth"])
@given(
    name=st.text("abc '", min_size=1),
    password=st.text(st.characters(min_codepoint=32, max_codepoint=126)),
    target=st.text("abc/?&=%20", min_size=1).map("/".__add__),
)
def test_the_standard_library_answers_the_same(
    qop: str | None, name: str, password: str, target: str
) -> None:
    asked = {"realm": "the camera", "nonce": NONCE} | ({"qop": qop} if qop else {})
    passwords = urllib.request.HTTPPasswordMgr()
    passwords.add_password("the camera", "http://camera/", name, password)
    oracle = UrllibDigest(passwords)
    request = urllib.request.Request(f"http://camera{target}")
    expected = oracle.get_authorization(request, asked)
    assert expected
    ours = authorize(
        Challenge("digest", asked),
        Credentials(name, password),
        target=request.selector,
        count=1,
        cnonce=CNONCE,
    )
    assert fields(ours)["response"] == fields(f"Digest {expected}")["response"]


def test_each_request_is_counted_in_hexadecimal() -> None:
    assert fields(reply(MD5, count=255))["nc"] == "000000ff"


def test_quotes_in_names_are_escaped() -> None:
    header = reply(MD5, credentials=Credentials('a "b" \\c', "p"))
    assert 'username="a \\"b\\" \\\\c"' in header


# Bytes


@pytest.mark.parametrize(
    ("realm", "encoding"), [("caméra", "latin-1"), ("caméra", "utf-8"), ("摄像机", "utf-8")]
)
def test_the_realm_is_hashed_and_sent_as_the_bytes_that_came(realm: str, encoding: str) -> None:
    """psf/requests#6102, mdn/content#28911: cameras name their realm in Latin-1 or UTF-8."""
    came = realm.encode(encoding).decode("latin-1")
    header = reply(f'Digest realm="{came}", nonce="n"', credentials=Credentials("me", "secret"))
    secret = hashlib.md5(b"me:" + realm.encode(encoding) + b":secret").hexdigest()
    assert fields(header)["response"] == md5(f"{secret}:n:{REQUEST}")
    assert f'realm="{realm}"'.encode(encoding) in header.encode("latin-1")


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_the_name_that_is_sent_is_the_name_that_is_hashed(encoding: str) -> None:
    """psf/requests#5089: a user name that is not ASCII."""
    challenge = Challenge("digest", {"realm": "r", "nonce": "n"})
    header = authorize(
        challenge,
        Credentials("jürgen", "größe"),
        target=TARGET,
        count=1,
        cnonce=CNONCE,
        encoding=encoding,
    )
    secret = hashlib.md5("jürgen:r:größe".encode(encoding)).hexdigest()
    assert fields(header)["response"] == md5(f"{secret}:n:{REQUEST}")
    assert 'username="jürgen"'.encode(encoding) in header.encode("latin-1")


@pytest.mark.parametrize(
    ("quoted", "meant"),
    [(r"a \"b\" \\c", r'a "b" \c'), (r"IP\Camera", r"IP\Camera"), (r"a\\b", r"a\b")],
)
def test_what_is_quoted_is_sent_as_it_came_and_hashed_as_it_is_meant(
    quoted: str, meant: str
) -> None:
    header = reply(f'Digest realm="{quoted}", nonce="n", opaque="{quoted}"')
    assert f'realm="{quoted}"' in header
    assert f'opaque="{quoted}"' in header
    secret = md5(f"Mufasa:{meant}:Circle of Life")
    assert fields(header.replace(quoted, ""))["response"] == md5(f"{secret}:n:{REQUEST}")


# A login over several requests


def nonce_sent(login: Login) -> str:
    header = login.header("/", "c")
    return fields(header)["nonce"] if header else ""


def nonce(value: str, **others: str) -> Challenge:
    return Challenge("digest", {"realm": "r", "nonce": value, **others})


def test_a_camera_whose_nonces_are_good_once_is_asked_afresh_each_time() -> None:
    """rroller/dahua#597, rburgst/okhttp-digest#23."""
    login = Login(MUFASA)
    for number in range(2):
        login.take_up(nonce(str(number)))
        assert nonce_sent(login) == str(number)
        login.let_in("")
        assert nonce_sent(login) == str(number), "it may be good for more"
        login.forget()
    login.take_up(nonce("2"))
    assert nonce_sent(login) == "2"
    login.let_in("")
    assert not login.is_ready


def test_a_nonce_that_ages_is_no_nonce_for_one_use() -> None:
    login = Login(MUFASA)
    for number in range(5):
        login.take_up(nonce(str(number)))
        for _ in range(3):
            assert nonce_sent(login) == str(number)
            login.let_in("")
        nonce_sent(login)
        login.forget()


def test_the_next_nonce_is_the_one_the_camera_names() -> None:
    login = Login(MUFASA)
    login.take_up(nonce("a"))
    assert nonce_sent(login) == "a"
    login.let_in('qop=auth, nextnonce="b", nc=00000001')
    assert nonce_sent(login) == "b"


def test_letters_beyond_ascii_are_spelt_in_utf_8_and_then_in_latin_1() -> None:
    login = Login(Credentials("jürgen", "secret"))
    login.take_up(BASIC)
    first = login.header("/", "c")
    assert login.spells_differently(BASIC)
    second = login.header("/", "c")
    sent = [b64decode((header or "").split()[1]) for header in (first, second)]
    assert sent == ["jürgen:secret".encode(), "jürgen:secret".encode("latin-1")]
    assert not login.spells_differently(BASIC), "there is no third way"


@pytest.mark.parametrize(
    ("credentials", "challenge"),
    [
        (Credentials("me", "secret"), BASIC),
        (Credentials("jürgen", "secret"), Challenge("basic", {"charset": "UTF-8"})),
        (Credentials("摄像机", "secret"), BASIC),
        (Credentials("jürgen", "secret"), None),
    ],
)
def test_nothing_is_tried_twice_that_would_be_the_same(
    credentials: Credentials, challenge: Challenge | None
) -> None:
    login = Login(credentials)
    login.take_up(BASIC)
    assert not login.spells_differently(challenge)


# Basic


@pytest.mark.parametrize(
    ("username", "password"),
    [("Aladdin", "open sesame"), ("admin", "a:b:c"), ("admin", ""), ("jürgen", "größe 🔑")],
)
def test_basic_is_name_and_password_in_utf_8(username: str, password: str) -> None:
    header = reply('Basic realm="camera"', credentials=Credentials(username, password))
    scheme, _, coded = header.partition(" ")
    assert scheme == "Basic"
    assert b64decode(coded).decode() == f"{username}:{password}"


# What is asked


def test_one_header_may_hold_several_challenges() -> None:
    header = f'Basic realm="camera, front", Digest realm="a \\"b\\", c", nonce={NONCE}, stale=false'
    assert parse_challenges([header]) == [
        Challenge("basic", {"realm": "camera, front"}),
        Challenge("digest", {"realm": 'a \\"b\\", c', "nonce": NONCE, "stale": "false"}),
    ]


def test_several_headers_hold_a_challenge_each() -> None:
    schemes = [challenge.scheme for challenge in parse_challenges(["Basic", SHA256, MD5])]
    assert schemes == ["basic", "digest", "digest"]


@pytest.mark.parametrize(
    "header",
    [
        'DIGEST REALM="r", NONCE="n"',
        'Digest realm = "r" , nonce = "n"',
        'Digest realm="r",nonce="n",',
        'Digest realm="r" nonce="n"',
        ', Digest realm="r", nonce="n"',
        "Digest realm=r, nonce=n",
        'Digest realm="r", nonce="n',
    ],
)
def test_a_challenge_is_written_in_many_ways(header: str) -> None:
    assert parse_challenges([header]) == [Challenge("digest", {"realm": "r", "nonce": "n"})]


def test_the_strongest_challenge_is_chosen() -> None:
    assert choose(parse_challenges(['Basic realm="r"', MD5, SHA256])) == Challenge(
        "digest", parse_challenges([SHA256])[0].parameters
    )
    assert fields(reply('Basic realm="r"', MD5))["algorithm"] == "MD5"


def test_a_digest_of_an_unknown_kind_leaves_basic() -> None:
    assert reply(f"Digest {OFFER}, algorithm=SHA-512-256", 'Basic realm="r"').startswith("Basic ")


@pytest.mark.parametrize("header", ["Negotiate", "Negotiate abcd==", 'NTLM realm="r"', "", "?"])
def test_a_challenge_nobody_can_answer_is_none(header: str) -> None:
    assert choose(parse_challenges([header])) is None


@given(st.lists(st.text('Digest Basic realm="x\\", qop=auth,;\n', max_size=60), max_size=3))
def test_reading_anything_raises_nothing(headers: list[str]) -> None:
    if challenge := choose(parse_challenges(headers)):
        authorize(challenge, MUFASA, target="/", count=1, cnonce="c")


def test_credentials_are_never_printed() -> None:
    assert "Circle" not in repr(MUFASA)
    assert "Mufasa" not in f"{MUFASA}"
