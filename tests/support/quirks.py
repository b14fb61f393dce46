"""What real cameras answer: a catalogue of HTTP replies, most of them wrong in some way.

A reply's `evidence` names where it was seen: a thread of a public repository, a source file, or
a measurement with aiohttp 3.14.5's client, of whose two parsers (C and Python) it says which
refuse the reply.
"""

import gzip
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from .pictures import (
    EOI,
    first_of_several,
    picture,
    progressive,
    turned,
    with_comment_traps,
    with_damaged_scan,
    with_fill_bytes,
    with_length_below_two,
    with_length_too_large,
    with_restarts,
    with_standard_tables,
    with_stuffing_in_the_header,
    with_thumbnail,
    with_thumbnails_elsewhere,
    with_traps,
    with_unlisted_bytes,
    without_eoi,
    without_tables,
)

BOUNDARY = "boundarydonotcross"
MULTIPART = f"multipart/x-mixed-replace;boundary={BOUNDARY}"
CLOSING = f"--{BOUNDARY}--\r\n".encode()

IMAGES = (picture(1), progressive(2), with_restarts(3), with_traps(4), with_fill_bytes(5))
BASELINE = (picture(1), picture(2), picture(3))
THUMBNAILED = (with_thumbnail(1), with_thumbnail(2), with_thumbnail(3))
WITHOUT_TABLES = (without_tables(1), without_tables(2), without_tables(3))
WITHOUT_EOI = (without_eoi(1), without_eoi(2), without_eoi(3))

SMALL = picture(9, (16, 16))
SOUND = b"\x7f\xff\xd8\xff\xfe" + bytes(range(256)) + b"\xff\xd8\xff\xdb\0\x04"
"""µ-law, in which the bytes of SOI are a loud noise."""

BASELINE_COMMENTED = tuple(with_unlisted_bytes(n, b"") for n in (1, 2, 3))
TURNED = turned(1, SMALL, cut=True)


@dataclass(frozen=True, slots=True)
class Reply:
    """All a camera sends on one connection after the request, before it closes.

    `images` is what must come out, in order, byte for byte; without any, the diagnosis must hold
    `error` (in lower case). The bytes arrive in pieces of at most `reads`.
    """

    name: str
    wire: bytes
    images: tuple[bytes, ...] = IMAGES
    error: str = ""
    evidence: str = ""
    reads: int = 65536

    def pieces(self) -> Iterator[bytes]:
        """Yield the wire's bytes as they arrive."""
        for at in range(0, len(self.wire), self.reads):
            yield self.wire[at : at + self.reads]


def answer(
    body: bytes,
    content_type: str | None = MULTIPART,
    *headers: str,
    status: str = "HTTP/1.0 200 OK",
    eol: str = "\r\n",
) -> bytes:
    """Write an HTTP answer: status line, `Content-Type` unless None, headers, body."""
    typed = [] if content_type is None else [f"Content-Type: {content_type}"]
    lines = [status, *typed, *headers, "", ""]
    return eol.join(lines).encode("latin-1") + body


def multipart(
    images: Sequence[bytes] = IMAGES,
    boundary: str = BOUNDARY,
    *,
    delimiter: str | None = None,
    part_type: str | None = "image/jpeg",
    length: Callable[[bytes], int | str] | None = len,
    extra: Sequence[str] = (),
    eol: str = "\r\n",
    between: str | None = None,
    blank: str | None = None,
    after: str | None = None,
) -> bytes:
    """Write a multipart body, without a closing boundary line, as it comes from a live camera.

    Each part is its delimiter (`--boundary`), the part headers (`Content-Type: part_type`,
    `Content-Length: length(image)`, `extra`; None omits one), all with `between` between them,
    then `eol`, `blank`, the image, and what comes `after` it. `between`, `blank` and `after`
    are `eol` unless given.
    """
    body = bytearray()
    for image in images:
        lines = [f"--{boundary}" if delimiter is None else delimiter]
        if part_type is not None:
            lines.append(f"Content-Type: {part_type}")
        if length is not None:
            lines.append(f"Content-Length: {length(image)}")
        head = (eol if between is None else between).join([*lines, *extra])
        head += eol + (eol if blank is None else blank)
        body += head.encode() + image + (eol if after is None else after).encode()
    return bytes(body)


def chunked(body: bytes, size: int = 701) -> bytes:
    """Apply HTTP's chunked coding, in chunks that respect neither parts nor pictures."""
    chunks = [body[at : at + size] for at in range(0, len(body), size)]
    return b"".join(b"%X\r\n%b\r\n" % (len(chunk), chunk) for chunk in [*chunks, b""])


def declared(parameter: str, kind: str = "multipart/x-mixed-replace") -> str:
    """Write a multipart type with a parameter that need not be right."""
    return f"{kind};{parameter}"


def glued(images: Sequence[bytes]) -> list[bytes]:
    """Put the first bytes of the next picture, up to inside its DQT, at the end of each."""
    return [a + b[:30] for a, b in zip(images, [*images[1:], b""], strict=True)]


def single(image: bytes, *, length: bool = True, content_type: str = "image/jpeg") -> bytes:
    """Answer with one picture, and what stands behind it."""
    return answer(image, content_type, *([f"Content-Length: {len(image)}"] if length else []))


def with_sound(part_type: str, *, length: Callable[[bytes], int | str] | None = len) -> bytes:
    """Write a multipart body with two parts of sound before each picture."""
    sound = multipart([SOUND, SOUND[::-1] + SOUND * 20], part_type=part_type, length=length)
    return b"".join(sound + multipart([image], length=length) for image in IMAGES)


def padded(images: Sequence[bytes], junk: bytes) -> list[bytes]:
    """Put bytes of no meaning behind each picture."""
    return [image + junk for image in images]


HEALTHY_HEADERS = (
    MULTIPART,
    "Connection: close",
    "Server: MJPG-Streamer/0.2",
    "Cache-Control: no-store, no-cache, must-revalidate, pre-check=0, max-age=0",
    "Pragma: no-cache",
    "Expires: Mon, 3 Jan 2000 12:34:56 GMT",
)
"""The type and further headers of mjpg-streamer, as `answer` takes them."""

HEALTHY = (
    Reply(
        "mjpg-streamer",
        answer(multipart(extra=["X-Timestamp: 1700000000.123456"]), *HEALTHY_HEADERS),
        evidence="mjpg-streamer plugins/output_http/httpd.c",
    ),
    Reply("HTTP/1.1 without a length", answer(multipart(), status="HTTP/1.1 200 OK")),
    Reply("a closing boundary line", answer(multipart() + CLOSING)),
    Reply(
        "one snapshot",
        answer(IMAGES[0], "image/jpeg", f"Content-Length: {len(IMAGES[0])}"),
        IMAGES[:1],
        evidence="AlexxIT/go2rtc#246",
    ),
)

BOUNDARIES = (
    Reply(
        "boundary declared with its dashes",
        answer(multipart(delimiter="--myboundary"), declared("boundary=--myboundary")),
        evidence="legege/node-mjpeg-proxy#5, janakj/py-mjpeg#2, vvidic/mjpeg-proxy#16",
    ),
    Reply(
        "boundary declared with its dashes, two more on the wire",
        answer(multipart(boundary="--foo"), declared("boundary=--foo")),
        evidence="what RFC 2046 makes of OpenCentauri/cc-fw-tools#108",
    ),
    Reply(
        "boundary without dashes on the wire",
        answer(multipart(delimiter="myboundary"), declared("boundary=myboundary")),
        evidence="chromium multipart_image_resource_parser.cc, motioneye-project/motioneye#733",
    ),
    Reply(
        "boundary in quotes",
        answer(multipart(), declared(f'boundary="{BOUNDARY}"')),
        evidence="legege/node-mjpeg-proxy#1 (AVTech), Motion netcam_http.c (Lumenera)",
    ),
    Reply(
        "space before the boundary's equals sign",
        answer(multipart(), declared(f" boundary ={BOUNDARY}")),
        evidence="Motion-Project/motion#1187 (Panasonic WV-NP)",
    ),
    Reply(
        "boundary of this request",
        answer(multipart(boundary="5f3a9c01"), declared("boundary=5f3a9c01")),
        evidence="vvidic/mjpeg-proxy#16",
    ),
    Reply(
        "boundary of the next request",
        answer(multipart(boundary="0b77e2d4"), declared("boundary=0b77e2d4")),
        evidence="vvidic/mjpeg-proxy#16",
    ),
    Reply(
        "another boundary than declared",
        answer(multipart(boundary="frame"), declared("boundary=video")),
        evidence="FFmpeg mpjpegdec.c, strict_mime_boundary",
    ),
    Reply(
        "another boundary than declared, and no lengths",
        answer(multipart(boundary="frame", length=None), declared("boundary=video")),
        evidence="FFmpeg mpjpegdec.c, strict_mime_boundary",
    ),
    Reply(
        "no boundary declared",
        answer(multipart(), "multipart/x-mixed-replace"),
        evidence="FFmpeg mpjpegdec.c, strict_mime_boundary",
    ),
    Reply(
        "every boundary looks like the last",
        answer(multipart(delimiter="--data-boundary--"), declared("boundary=data-boundary")),
        evidence="AlexxIT/go2rtc#545 (Kasa)",
    ),
    Reply(
        "every boundary looks like the last, as declared",
        answer(multipart(delimiter="--data-boundary--"), declared("boundary=data-boundary--")),
        evidence="AlexxIT/go2rtc#1006 (Kasa)",
    ),
    Reply(
        "first boundary missing",
        answer(multipart().removeprefix(f"--{BOUNDARY}\r\n".encode())),
        evidence="arendst/Tasmota#12376, espressif/esp32-camera#120, ZoneMinder/zoneminder#3602",
    ),
    Reply(
        "boundary doubled",
        answer(
            multipart(delimiter="--ThisString\n--ThisString", eol="\n"),
            declared("boundary=ThisString"),
        ),
        evidence="AlexxIT/go2rtc#1258 (Foscam G2)",
    ),
    Reply(
        "boundary and first part header on one line",
        answer(
            multipart(delimiter="--jpgboundaryContent-type: image/jpeg", part_type=None),
            declared("boundary=--jpgboundary"),
        ),
        evidence="roflcoopter/viseron#355",
    ),
)

PARTS = (
    Reply(
        "empty line before the first boundary",
        answer(b"\r\n" + multipart()),
        evidence="RFC 2046 5.1.1",
    ),
    Reply(
        "no line end before a boundary",
        answer(multipart(after="")),
        evidence="FFmpeg mpjpegdec.c",
    ),
    Reply(
        "no line end before a boundary, and no lengths",
        answer(multipart(after="", length=None)),
        evidence="FFmpeg mpjpegdec.c",
    ),
    Reply(
        "too many line ends before a boundary",
        answer(multipart(after="\r\n\r\n\r\n")),
        evidence="FFmpeg mpjpegdec.c",
    ),
    Reply(
        "too many line ends before a picture",
        answer(multipart(blank="\r\n\r\n")),
        evidence="chromium multipart_image_resource_parser.cc",
    ),
    Reply(
        "no empty line before a picture",
        answer(multipart(blank="")),
        evidence="chromium multipart_image_resource_parser.cc",
    ),
    Reply(
        "LF only in the parts",
        answer(multipart(eol="\n")),
        evidence="wpilibsuite/allwpilib HttpCameraImpl.cpp (LabVIEW)",
    ),
    Reply(
        "no part headers",
        answer(multipart(part_type=None, length=None)),
        evidence="bluecherrydvr/bluecherry-apps#139",
    ),
    Reply(
        "no part headers, and no empty line for them",
        answer(multipart(part_type=None, length=None, blank="")),
        evidence="bluecherrydvr/bluecherry-apps#139",
    ),
    Reply(
        "part headers on the boundary's line",
        answer(multipart(between=" ")),
        evidence="bluecherrydvr/bluecherry-apps#139",
    ),
    Reply(
        "part headers of D-Link",
        answer(multipart(extra=["X-Status: 0", "X-Tags:", "X-Flags: 0"])),
        evidence="defvol/Paparazzo.js#11",
    ),
    Reply(
        "part headers of Kasa",
        answer(
            multipart(extra=["X-UtcTime:1690526144", "X-Timestamp: 295528.317000", "X-Audio: 1"]),
        ),
        evidence="AlexxIT/go2rtc#545",
    ),
    Reply(
        "headers in pieces",
        answer(multipart()),
        evidence="defvol/Paparazzo.js#11",
        reads=7,
    ),
    Reply("a byte at a time", answer(multipart()), reads=1),
    Reply(
        "no part lengths",
        answer(multipart(length=None)),
        evidence="AlexxIT/go2rtc#1833 (Mobotix), sarxos/webcam-capture#705, sipeed/NanoKVM#632",
    ),
    Reply(
        "part length too small",
        answer(multipart(length=lambda image: len(image) // 2)),
        evidence="sarxos/webcam-capture#441, niqdev/ipcam-view#38 (D-Link DCS-930)",
    ),
    Reply(
        "part length too large",
        answer(multipart(length=lambda image: len(image) + 1000)),
        evidence="sarxos/webcam-capture#441, niqdev/ipcam-view#38 (D-Link DCS-930)",
    ),
    Reply(
        "part length 0",
        answer(multipart(length=lambda _: 0)),
        evidence="sarxos/webcam-capture#441",
    ),
    Reply(
        "part length -1",
        answer(multipart(length=lambda _: -1)),
        evidence="AlexxIT/WebRTC#880, mylisabox/flutter_mjpeg#41 (Netcam Studio)",
    ),
    Reply(
        "part length not a number",
        answer(multipart(length=lambda _: "${frameData.length}")),
        evidence="caseymcj/raspberrypi_node_camera_web_streamer#5",
    ),
    Reply(
        "part length after many spaces",
        answer(multipart(length=lambda image: f"{len(image):9d}")),
        evidence="Motion webu_stream.cpp",
    ),
    Reply(
        "part type with a parameter",
        answer(multipart(part_type="image/jpeg;size=1234")),
        evidence="ZoneMinder/zoneminder#692 (Trendnet)",
    ),
    Reply(
        "part type image/jpg",
        answer(multipart(part_type="image/jpg")),
        evidence="caseymcj/raspberrypi_node_camera_web_streamer#5",
    ),
    Reply("part type video/x-jpeg", answer(multipart(part_type="video/x-jpeg"))),
    Reply("part type text/html", answer(multipart(part_type="text/html"))),
    Reply("no part type", answer(multipart(part_type=None))),
    Reply(
        "sound between the pictures",
        answer(with_sound("audio/basic")),
        evidence="adgkinsey/adffmpeg adpic.c",
    ),
    Reply(
        "sound between the pictures, and no lengths",
        answer(with_sound("audio/basic", length=None)),
        evidence="adgkinsey/adffmpeg adpic.c",
    ),
    Reply(
        "sound of an unknown type between the pictures",
        answer(with_sound("application/x-sound")),
        evidence="adgkinsey/adffmpeg adpic.c",
    ),
)

PICTURES = (
    Reply(
        "pictures without multipart",
        answer(b"".join(IMAGES), "video/x-motion-jpeg"),
        evidence="AlexxIT/go2rtc pkg/magic/mjpeg",
    ),
    Reply(
        "pictures without multipart or type",
        answer(b"".join(IMAGES), "application/octet-stream"),
        evidence="AlexxIT/go2rtc pkg/magic/mjpeg",
    ),
    Reply(
        "thumbnails",
        answer(multipart(THUMBNAILED)),
        BASELINE,
        evidence="kevinGodell/pipe2jpeg#1, AndreRenaud/PDFGen#114",
    ),
    Reply(
        "thumbnails, and no lengths",
        answer(multipart(THUMBNAILED, length=None)),
        BASELINE,
        evidence="kevinGodell/pipe2jpeg#1, AndreRenaud/PDFGen#114",
    ),
    Reply(
        "markers in comments",
        answer(multipart([*map(with_comment_traps, (1, 2, 3))], length=None)),
        BASELINE,
        evidence="ruffle-rs/ruffle#8820",
    ),
    Reply(
        "zeros after EOI",
        answer(multipart(padded(IMAGES, bytes(64)))),
        evidence="pikvm/ustreamer src/libs/capture.c",
    ),
    Reply(
        "FF after EOI",
        answer(multipart(padded(IMAGES, b"\xff" * 64))),
        evidence="openMVG/openMVG#303",
    ),
    Reply(
        "D9 00 after EOI",
        answer(multipart(padded(IMAGES, b"\xd9\0"))),
        evidence="pikvm/ustreamer src/libs/capture.c",
    ),
    Reply(
        "EOI twice",
        answer(multipart(padded(IMAGES, EOI))),
        evidence="intel/libyami#832",
    ),
    Reply(
        "zeros after EOI, and no lengths",
        answer(multipart(padded(IMAGES, bytes(64)), length=None)),
        evidence="pikvm/ustreamer src/libs/capture.c",
    ),
    Reply(
        "no EOI",
        answer(multipart(WITHOUT_EOI) + CLOSING),
        BASELINE,
        evidence="mjpg-streamer#47, sarxos/webcam-capture#269",
    ),
    Reply(
        "no EOI, and no lengths",
        answer(multipart(WITHOUT_EOI, length=None) + CLOSING),
        BASELINE,
        evidence="mjpg-streamer#47, sarxos/webcam-capture#269",
    ),
    Reply(
        "no EOI before the next picture",
        answer(b"".join([*WITHOUT_EOI[:2], BASELINE[2]]), "video/x-motion-jpeg"),
        BASELINE,
        evidence="mjpg-streamer#47",
    ),
    Reply(
        "fill bytes before markers",
        answer(multipart([*map(with_fill_bytes, range(3))], length=None)),
        tuple(map(with_fill_bytes, range(3))),
        evidence="LibrePDF/OpenPDF#1247, image-rs/jpeg-decoder#147",
    ),
    Reply(
        "no Huffman tables",
        answer(multipart(WITHOUT_TABLES)),
        tuple(map(with_standard_tables, WITHOUT_TABLES)),
        evidence="etemesi254/zune-image#136, AlexxIT/go2rtc#2439, gen2brain/cam2ip#20",
    ),
    Reply(
        "the next picture's first bytes at the end",
        answer(multipart(glued(IMAGES))),
        evidence="mm5agm/Yaesu_Web_Control#132",
    ),
    Reply(
        "a comment longer than it says",
        answer(multipart([*map(with_unlisted_bytes, (1, 2, 3))], length=None)),
        BASELINE_COMMENTED,
        evidence="rroller/dahua#681, rroller/dahua#575, lilohuang/PyTurboJPEG#77 (Dahua)",
    ),
    Reply(
        "a snapshot with a comment longer than it says",
        single(with_unlisted_bytes(1)),
        BASELINE_COMMENTED[:1],
        evidence="rroller/dahua#681, lilohuang/PyTurboJPEG#77 (Dahua)",
    ),
    Reply(
        "text between two segments",
        answer(multipart([with_unlisted_bytes(n, b"hello" * n) for n in (1, 2, 3)])),
        BASELINE_COMMENTED,
        evidence="python-pillow/Pillow junk_jpeg_header.jpg, photoshop-200dpi-broken.jpg",
    ),
    Reply(
        "FF00 between two segments",
        answer(multipart([*map(with_stuffing_in_the_header, (1, 2, 3))])),
        BASELINE,
        evidence="python-pillow/Pillow jpeg_ff00_header.jpg",
    ),
    Reply(
        "a comment shorter than it says",
        answer(multipart([with_length_too_large(1), with_length_too_large(2, 900), picture(3)])),
        (with_length_too_large(1, 0), with_length_too_large(2, 0), picture(3)),
    ),
    Reply(
        "a snapshot with a comment shorter than it says",
        single(with_length_too_large(1)),
        (with_length_too_large(1, 0),),
    ),
    Reply(
        "segments of length 0 and 1",
        answer(multipart([*map(with_length_below_two, (1, 2, 3))])),
        BASELINE,
    ),
    Reply(
        "a damaged scan",
        answer(multipart([picture(1), with_damaged_scan(2), picture(3)])),
        (picture(1), with_damaged_scan(2), picture(3)),
        evidence="ianare/exif-samples corrupted.jpg",
    ),
    Reply(
        "a snapshot with a damaged scan",
        single(with_damaged_scan(2)),
        (with_damaged_scan(2),),
        evidence="ianare/exif-samples corrupted.jpg",
    ),
    Reply(
        "thumbnails in other segments",
        answer(multipart([*map(with_thumbnails_elsewhere, (1, 2, 3))], length=None)),
        BASELINE,
        evidence="openpreserve/jhove#303 (JFXX), moxiecode/plupload#764 (APP13)",
    ),
    Reply(
        "a thumbnail in a snapshot that lies on its side",
        single(turned(1, SMALL)),
        (TURNED,),
        evidence="raspberrypi/picamera2#1015, feelfreelinux/octo4a#279",
    ),
    Reply(
        "another image behind each",
        answer(multipart([image + SMALL for image in IMAGES])),
        evidence="deckerst/aves#1185, python-pillow/Pillow#8052 (Ultra HDR)",
    ),
    Reply(
        "another image behind each, and no lengths",
        answer(multipart([image + bytes(3) + image for image in IMAGES], length=None)),
        evidence="python-pillow/Pillow frozenpond.mpo",
    ),
    Reply(
        "another image behind a snapshot",
        single(picture(1, (640, 480)) + picture(1, (160, 120))),
        (picture(1, (640, 480)),),
        evidence="deckerst/aves#1185, feelfreelinux/octo4a#279 (phones)",
    ),
    Reply(
        "another image behind a snapshot, and no length",
        single(picture(1) + SMALL + SMALL[:-9], length=False),
        BASELINE[:1],
        evidence="deckerst/aves#1185, feelfreelinux/octo4a#279 (phones)",
    ),
    Reply(
        "another image behind a snapshot without a type of its own",
        single(picture(1) + SMALL, content_type="application/octet-stream"),
        BASELINE[:1],
    ),
    Reply(
        "two views in a snapshot",
        single(first_of_several(1) + picture(2)),
        BASELINE[:1],
        evidence="python-pillow/Pillow sugarshack.mpo",
    ),
    Reply(
        "two views in a snapshot, and no length",
        single(first_of_several(1) + picture(2), length=False),
        BASELINE[:1],
        evidence="python-pillow/Pillow sugarshack.mpo",
    ),
    Reply(
        "pictures without multipart, called one",
        answer(b"".join(IMAGES), "image/jpeg"),
        evidence="AlexxIT/go2rtc pkg/magic/mjpeg",
    ),
    Reply(
        "pictures without multipart, called one of 9999999 bytes",
        answer(b"".join(IMAGES), "image/jpeg", "Content-Length: 9999999"),
    ),
)

HEADERS = (
    Reply(
        "a bare date among the headers",
        answer(multipart(), MULTIPART, "Tue, 12 Jun 2012 01:56:34 GMT"),
        evidence="home-assistant/core#14960 (GoAhead); aiohttp: both refuse",
    ),
    Reply(
        "a header without a colon",
        answer(multipart(), MULTIPART, "Cache-Control no-cache"),
        evidence="aiohttp: both refuse",
    ),
    Reply(
        "Expires with placeholders",
        answer(multipart(), MULTIPART, "Expires: Thu, %d %d %d %d:%d:%d GMT", "Pragma:", "%s"),
        evidence="OpenCentauri/cc-fw-tools#108, danielcherubini/elegoo-homeassistant#196",
    ),
    Reply(
        "a space before the colon",
        answer(multipart(), None, f"Content-Type : {MULTIPART}"),
        evidence="aiohttp: both refuse",
    ),
    Reply(
        "a header of 9000 bytes",
        answer(multipart(), MULTIPART, "Set-Cookie: " + "x" * 9000),
        evidence="aiohttp: both refuse",
    ),
    Reply(
        "NUL in a header",
        answer(multipart(), MULTIPART, "Server: cam\0era"),
        evidence="aiohttp: both refuse",
    ),
    Reply(
        "an empty header name",
        answer(multipart(), MULTIPART, ": no-cache"),
        evidence="aiohttp: both refuse",
    ),
    Reply(
        "Latin-1 in a header",
        answer(multipart(), MULTIPART, "Server: Caméra d'entrée"),
        evidence="aiohttp: both accept",
    ),
    Reply(
        "a folded header",
        answer(multipart(), declared(f"\r\n boundary={BOUNDARY}")),
        evidence="aiohttp: both accept",
    ),
    Reply(
        "the whole type in quotes",
        answer(multipart(), f'"{MULTIPART}"'),
        evidence="ZoneMinder/zoneminder#1743 (Edimax)",
    ),
    Reply(
        "multipart/mixed",
        answer(multipart(), declared(f"boundary={BOUNDARY}", "multipart/mixed")),
        evidence="ZoneMinder/zoneminder#481 (Airlink101)",
    ),
    Reply("text/html by mistake", answer(multipart(), "text/html")),
    Reply("no type", answer(multipart(), None), evidence="aiohttp: both accept"),
    Reply(
        "two types",
        answer(multipart(), "text/html", f"Content-Type: {MULTIPART}"),
        evidence="aiohttp: both accept",
    ),
    Reply(
        "extra empty lines after the headers",
        answer(b"\r\n\r\n" + multipart()),
        evidence="aiohttp: both accept",
    ),
    Reply(
        "no empty line after the headers",
        answer(multipart()).replace(b"\r\n\r\n", b"\r\n", 1),
        evidence="aiohttp: both refuse",
    ),
    Reply("LF only", answer(multipart(eol="\n"), eol="\n"), evidence="aiohttp: both accept"),
    Reply(
        "CR CR LF line ends",
        answer(multipart(), eol="\r\r\n"),
        evidence="aiohttp: C refuses",
    ),
    Reply(
        "a cookie beside the pictures",
        answer(multipart(), MULTIPART, "Set-Cookie: session=abc; Path=/; HttpOnly"),
        evidence="evercam/evercam-server#5 (Ubiquiti)",
    ),
    Reply(
        "the next nonce beside the pictures",
        answer(multipart(), MULTIPART, 'Authentication-Info: nextnonce="abc", qop=auth'),
        evidence="RFC 7616, section 3.5",
    ),
)

STATUS_LINES = (
    Reply("no status line or headers", multipart(), evidence="aiohttp: both refuse HTTP/0.9"),
    Reply(
        "no status line, headers or multipart",
        b"".join(IMAGES),
        evidence="aiohttp: both refuse HTTP/0.9",
    ),
    Reply(
        "no status line before the headers",
        answer(multipart()).removeprefix(b"HTTP/1.0 200 OK\r\n"),
        evidence="niqdev/ipcam-view#26 (D-Link)",
    ),
    Reply(
        "an empty line before the status line",
        b"\r\n" + answer(multipart()),
        evidence="niqdev/ipcam-view#26 (D-Link); aiohttp: Python refuses",
    ),
    Reply("ICY", answer(multipart(), status="ICY 200 OK"), evidence="aiohttp: both refuse"),
    Reply(
        "HTTP in lower case",
        answer(multipart(), status="http/1.1 200 OK"),
        evidence="aiohttp: both refuse",
    ),
    Reply(
        "two spaces in the status line",
        answer(multipart(), status="HTTP/1.1  200 OK"),
        evidence="aiohttp: C refuses",
    ),
    Reply(
        "no reason phrase",
        answer(multipart(), status="HTTP/1.1 200"),
        evidence="aiohttp: both accept",
    ),
    Reply(
        "100 Continue first",
        b"HTTP/1.1 100 Continue\r\n\r\n" + answer(multipart(), status="HTTP/1.1 200 OK"),
        evidence="RFC 9110 15.2",
    ),
)

LENGTHS = (
    Reply(
        "length 9999999",
        answer(multipart(), MULTIPART, "Content-Length: 9999999"),
        evidence="mjpg-streamer httpd.c, send_stream_wxp; aiohttp: both accept",
    ),
    Reply(
        "length -1",
        answer(multipart(), MULTIPART, "Content-Length: -1"),
        evidence="AlexxIT/go2rtc#1006 (Kasa); aiohttp: both refuse",
    ),
    Reply(
        "length 0",
        answer(multipart(), MULTIPART, "Content-Length: 0"),
        evidence="aiohttp: both refuse",
    ),
    Reply(
        "two lengths",
        answer(multipart(), MULTIPART, "Content-Length: 0", "Content-Length: 9999999"),
        evidence="aiohttp: both refuse",
    ),
    Reply(
        "chunked",
        answer(
            chunked(multipart()),
            MULTIPART,
            "Transfer-Encoding: chunked",
            status="HTTP/1.1 200 OK",
        ),
        evidence="motioneye-project/motioneye#3266, espressif/esp32-camera#146",
    ),
    Reply(
        "chunked, with a length",
        answer(
            chunked(multipart()),
            MULTIPART,
            "Content-Length: 9999999",
            "Transfer-Encoding: chunked",
            status="HTTP/1.1 200 OK",
        ),
        evidence="aiohttp: both refuse",
    ),
    Reply(
        "says chunked, is not",
        answer(
            multipart(),
            MULTIPART,
            "Transfer-Encoding: chunked",
            status="HTTP/1.1 200 OK",
        ),
        evidence="aiohttp: both refuse",
    ),
    Reply(
        "says gzip, is not",
        answer(multipart(), MULTIPART, "Content-Encoding: gzip"),
        evidence="aiohttp: both refuse",
    ),
    Reply(
        "gzip",
        answer(gzip.compress(multipart(), mtime=0), MULTIPART, "Content-Encoding: gzip"),
        evidence="aiohttp: both accept",
    ),
    Reply(
        "deflate",
        answer(zlib.compress(multipart()), MULTIPART, "Content-Encoding: deflate"),
        evidence="RFC 9110 8.4.1.2",
    ),
)

REPLIES = HEALTHY + BOUNDARIES + PARTS + PICTURES + HEADERS + STATUS_LINES + LENGTHS
"""Every reply that carries images; the first is a healthy camera's."""

HTML = b"<!DOCTYPE html>\n<html><head><title>Camera</title></head><body>Log in</body></html>\n"
NAL_UNITS = (b"\0\0\0\1\x67\x42\0\x1f", b"\0\0\0\1\x68\xce\x38\x80", b"\0\0\0\1\x65\x88\x84\0")
HEVC_UNITS = (b"\0\0\0\1\x40\x01\x0c\x01", b"\0\0\0\1\x42\x01\x01\x01", b"\0\0\0\1\x26\x01\xaf\x08")
_FILLER = bytes(range(200)) * 30

FOREIGN = {
    "FLV video": b"FLV\x01\x05\0\0\0\x09\0\0\0\0\x12\0\0\xb8" + _FILLER,
    "MPEG-TS video": (b"\x47\x40\x11\x10" + bytes(range(184))) * 30,
    "WebM video": b"\x1a\x45\xdf\xa3\x9f\x42\x86\x81\x01\x42\x82\x84webm" + _FILLER,
    "an HLS playlist": b"#EXTM3U\n#EXT-X-VERSION:3\n#EXTINF:1.0,\na0.ts\n",
    "H.264 video": b"".join(NAL_UNITS) + _FILLER,
    "H.265 video": b"".join(HEVC_UNITS) + _FILLER,
    "MP4 video": b"\0\0\0\x24ftypisom\0\0\2\0isomiso6" + _FILLER,
    "PNG pictures": b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR\0\0\1\x40\0\0\0\xf0\x08\2\0\0" + _FILLER,
    "WebP pictures": b"RIFF\x34\x0c\0\0WEBPVP8 \x28\x0c\0\0" + _FILLER,
    "GIF pictures": b"GIF89a\x40\1\xf0\0\xf7\x1f" + _FILLER,
    "BMP pictures": b"BM\x36\x84\3\0\0\0\0\0\x36\0\0\0\x28\0\0\0" + _FILLER,
    "sound (MP3)": b"ID3\4\0\0\0\0\0\x23TSSE" + _FILLER,
    "sound (AAC)": b"\xff\xf1\x50\x40\x21\x3f\xfc\xde" + _FILLER,
    "sound (WAV)": b"RIFF\xce\x58\1\0WAVEfmt \x10\0\0\0" + _FILLER,
    "an Ogg file": b"OggS\0\2\0\0\0\0\0\0\0\0\x58\xae" + _FILLER,
    "a packed file (zip)": b"PK\3\4\x14\0\0\0\x08\0" + _FILLER,
}
"""The beginnings of what is no JPEG, by what it is called."""

_DECLARED = {
    "FLV video": "video/x-flv",
    "MPEG-TS video": "video/mp2t",
    "WebM video": "video/webm",
    "an HLS playlist": "application/vnd.apple.mpegurl",
    "PNG pictures": "image/png",
    "sound (MP3)": "audio/mpeg",
}
_SEEN = {
    "FLV video": "TigerTag-Project/TigerTag-Studio-Manager#2 (Anycubic, port 18088)",
    "H.264 video": "AlexxIT/go2rtc#545 (Kasa)",
}


def _foreign(name: str, body: bytes, declared: str) -> Reply:
    seen = _SEEN.get(name, "what its format begins with")
    return Reply(f"{name} as {declared}", answer(body, declared), (), name.lower(), seen)


def _foreign_parts(name: str, body: bytes, declared: str) -> Reply:
    wire = answer(multipart([body] * 3, part_type=declared))
    return Reply(f"parts of {name} as {declared}", wire, (), name.lower(), _SEEN.get(name, ""))


REFUSALS = (
    *(
        _foreign(name, body, declared)
        for name, body in FOREIGN.items()
        for declared in ("application/octet-stream", "image/jpeg", _DECLARED.get(name, "video/any"))
    ),
    *(
        _foreign_parts(name, FOREIGN[name], declared)
        for name in ("PNG pictures", "WebP pictures", "H.264 video", "H.265 video", "FLV video")
        for declared in ("application/octet-stream", "image/jpeg")
    ),
    _foreign_parts("PNG pictures", FOREIGN["PNG pictures"], "image/png"),
    Reply(
        "H.264 parts",
        answer(
            multipart(NAL_UNITS, delimiter="--data-boundary--", part_type="video/x-h264"),
            declared("boundary=data-boundary--"),
        ),
        (),
        error="h.264",
        evidence="AlexxIT/go2rtc#545 (Kasa)",
    ),
    Reply("an HTML page", answer(HTML, "text/html"), (), error="html"),
    Reply("JSON", answer(b'{"error": "busy"}', "application/json"), (), error="json"),
    Reply(
        "RTSP",
        b"RTSP/1.0 400 Bad Request\r\nCSeq: 0\r\n\r\n",
        (),
        error="speaks rtsp, not http",
        evidence="RFC 2326, section 6: what a server of it says to a request in HTTP",
    ),
    Reply(
        "SSH",
        b"SSH-2.0-OpenSSH_9.2p1\r\n",
        (),
        error="it speaks ssh",
        evidence="RFC 4253, section 4.2",
    ),
    Reply(
        "an alert of TLS",
        b"\x15\3\1\0\2\2\x46",
        (),
        error="speaks https, not plain http",
        evidence="RFC 8446, section 6",
    ),
    Reply(
        "a request in plain HTTP at a port for https, nginx",
        answer(
            b"<html>\r\n<head><title>400 The plain HTTP request was sent to HTTPS port</title>"
            b"</head>\r\n<body>\r\n<center><h1>400 Bad Request</h1></center>",
            "text/html",
            status="HTTP/1.1 400 Bad Request",
        ),
        (),
        error="speaks https, not plain http",
        evidence="nginx ngx_http_special_response.c",
    ),
    Reply(
        "a request in plain HTTP at a port for https, Go",
        b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n",
        (),
        error="speaks https, not plain http",
        evidence="Go net/http/server.go",
    ),
    Reply(
        "400",
        answer(b"no\n", "text/plain", status="HTTP/1.0 400 Bad Request"),
        (),
        error="answers 400 bad request",
    ),
    Reply("404", answer(HTML, "text/html", status="HTTP/1.0 404 Not Found"), (), error="404"),
    Reply(
        "500",
        answer(b"no frame\n", "text/plain", status="HTTP/1.0 500 Internal Server Error"),
        (),
        error="500",
    ),
    Reply("nothing at all", b"", (), error="closed"),
    Reply("half a header", b"HTTP/1.1 200 OK\r\nContent-", (), error="within its answer's header"),
    Reply(
        "headers without end",
        answer(b"", MULTIPART, *["X-Filler: " + "x" * 90] * 800).removesuffix(b"\r\n"),
        (),
        error="header",
    ),
)
"""Replies that carry no images."""
