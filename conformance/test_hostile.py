"""Hostile requests: each gets the right answer (PS3.18 §10.5.3.1, PS3.8 §9), and the server goes on."""

import socket
import struct
from urllib.parse import urlsplit

import pytest
from pydicom.uid import EncapsulatedPDFStorage

import multipart
from build import encode, image, instance, instance_path
from conftest import INSTANCES

FILE = encode(image())
PREAMBLE = bytes(128) + b"DICM"


@pytest.fixture(autouse=True)
def server_goes_on(origin):
    """Stores and retrieves a normal instance after each test."""
    yield
    data_set = image()
    origin.store(encode(data_set))
    assert origin.get(instance_path(data_set), INSTANCES).status_code == 200


def element(group: int, number: int, vr: bytes, length: int) -> bytes:
    """The head of an element in Explicit VR with a length of 32 bits (PS3.5 §7.1.2)."""
    return struct.pack("<HH2sHI", group, number, vr, 0, length)


def nested(levels: int, is_closed: bool = True) -> bytes:
    """Sequences of undefined length, each within an item of the one before."""
    item = struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)
    ends = struct.pack("<HHI", 0xFFFE, 0xE00D, 0) + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
    return (element(0x0040, 0xA730, b"SQ", 0xFFFFFFFF) + item) * levels + ends * levels * is_closed


def raw_http(origin, sent: bytes) -> bytes:
    """Sends bytes, closes the sending half, and returns the answer; a connection that the server cuts is an answer, too."""
    url = urlsplit(origin.url)
    with socket.create_connection((url.hostname, url.port), timeout=20) as connection:
        try:
            connection.sendall(sent)
            connection.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: connection.recv(65536), b""))
        except (ConnectionResetError, BrokenPipeError):
            return b""


def store_one(origin, body: bytes):
    return origin.post(multipart.write([body]), multipart.content_type())


@pytest.mark.parametrize("length", [0, 1, 100, 127, 128, 131, 132, 140, 200, 300, len(FILE) - 1])
def test_a_file_cut_anywhere_is_refused(origin, length):
    assert store_one(origin, FILE[:length]).status_code in (400, 409)


@pytest.mark.parametrize(
    "body",
    [
        b"\0" * 5000,
        b"\xff" * 5000,
        bytes(range(256)) * 20,
        PREAMBLE,
        PREAMBLE + b"\xff" * 3000,
        b"<html></html>",
        b"PK\x03\x04" + bytes(500),
        PREAMBLE + FILE,
    ],
    ids=["zeros", "ones", "every byte", "preamble", "preamble and ones", "HTML", "zip", "preamble twice"],
)
def test_garbage_is_refused(origin, body):
    assert store_one(origin, body).status_code in (400, 409)


@pytest.mark.parametrize("vr", [b"OB", b"OW", b"UN", b"UT", b"SQ", b"OF", b"UC"])
@pytest.mark.parametrize("length", [0xFFFFFFFE, 0x7FFFFFFE])
def test_a_value_that_claims_gigabytes_is_refused(origin, vr, length):
    data_set = image()
    data_set.pop("PixelData")
    assert store_one(origin, encode(data_set) + element(0x7FE1, 0x1010, vr, length) + b"few").status_code in (400, 409)


@pytest.mark.parametrize("levels", [5000, 50_000])
@pytest.mark.parametrize("is_closed", [True, False], ids=["closed", "open"])
def test_sequences_of_great_depth_are_refused(origin, levels, is_closed):
    data_set = image()
    data_set.pop("PixelData")
    assert store_one(origin, encode(data_set) + nested(levels, is_closed)).status_code in (400, 409)


@pytest.mark.parametrize("content_type", ["multipart/related", 'multipart/related; boundary=""', f"multipart/related; boundary={'x' * 5000}"])
def test_a_multipart_body_without_a_legal_boundary_is_a_client_error(origin, content_type):
    assert origin.post(multipart.write([FILE]), content_type).status_code in (400, 415)


@pytest.mark.parametrize(
    "body",
    [
        f"--{multipart.BOUNDARY}".encode(),
        f"--{multipart.BOUNDARY}\r\n".encode(),
        f"--{multipart.BOUNDARY}\r\nContent-Type: application/dicom".encode(),
        f"--{multipart.BOUNDARY}\r\nX: ".encode() + b"x" * 1_000_000,
        f"--{multipart.BOUNDARY}x\r\n\r\n".encode() + FILE,
    ],
    ids=["delimiter", "line", "open header", "endless header", "longer delimiter"],
)
def test_a_multipart_body_that_never_has_a_part_is_400(origin, body):
    assert origin.post(body, multipart.content_type()).status_code in (400, 413)


@pytest.mark.parametrize(
    "query",
    ["limit=-1", "limit=x", "offset=-1", "limit=99999999999999999999", "PatientName=%FF%FE", "StudyDate=x-y-z", "%00=%00", "includefield=" + "0" * 3000],
)
def test_a_query_that_makes_no_sense_is_no_server_error(origin, query):
    assert origin.get(f"/studies?{query}", "application/dicom+json").status_code < 500


@pytest.mark.parametrize("value", ["bytes=9-1", "bytes=x", "bytes=-", "bytes=0-0," * 500, "lines=1-2", "bytes=99999999999999999999-"])
def test_a_range_that_makes_no_sense_is_passed_over_or_416(origin, value):
    data_set = image()
    origin.store(encode(data_set))
    answer = origin.get(instance_path(data_set), "application/dicom; transfer-syntax=*", Range=value)
    assert answer.status_code in (200, 206, 400, 416)


@pytest.mark.parametrize("numbers", ["99999999999999999999", "1," * 1000 + "1", ",", "1,,1", "%00"])
def test_frame_lists_that_make_no_sense_are_no_server_error(origin, numbers):
    data_set = image()
    origin.store(encode(data_set))
    assert origin.get(f"{instance_path(data_set)}/frames/{numbers}").status_code < 500


@pytest.mark.parametrize("sent_bytes", [0, 50, 300, len(FILE)])
def test_an_upload_that_breaks_off_stores_nothing_of_the_open_part(origin, sent_bytes):
    data_set = image()
    head = f"POST {urlsplit(origin.url).path}/studies HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000000\r\n"
    head += f"Content-Type: {multipart.content_type()}\r\n\r\n--{multipart.BOUNDARY}\r\nContent-Type: application/dicom\r\n\r\n"
    raw_http(origin, head.encode() + encode(data_set)[:sent_bytes])
    assert origin.get(instance_path(data_set), INSTANCES).status_code == 404


@pytest.mark.parametrize(
    "sent",
    [b"\0" * 100, b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"GET /" + b"a" * 200_000, b"\x16\x03\x01\x02\x00\x01\x00"],
    ids=["zeros", "no path", "version", "endless path", "TLS"],
)
def test_what_is_no_http_is_an_error_or_a_closed_connection(origin, sent):
    answer = raw_http(origin, sent)
    assert answer == b"" or answer.startswith((b"HTTP/1.1 4", b"HTTP/1.1 505", b"HTTP/1.0 4"))


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"\x01",
        b"\x01\x00\x00\x00\x00\x00",
        b"\x01\x00\xff\xff\xff\xff" + bytes(100),
        b"\x04\x00\x00\x00\x00\x06" + bytes(6),
        b"\xff" * 1000,
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x01\x00\x00\x00\x00\x48\x00\x01" + bytes(66) + b"\x10\x00\xff\xff",
    ],
    ids=["nothing", "one byte", "empty request", "4 GB", "data first", "ones", "HTTP", "item beyond the end"],
)
def test_what_is_no_association_is_aborted_or_closed(origin, sent):
    with socket.create_connection(origin.dimse, timeout=20) as connection:
        try:
            connection.sendall(sent)
            connection.shutdown(socket.SHUT_WR)
            answer = connection.recv(65536)
        except ConnectionResetError:
            answer = b""
    # A-ASSOCIATE-RJ or A-ABORT (PS3.8 §9.3.4, §9.3.8).
    assert answer == b"" or answer[0] in (3, 7)


@pytest.mark.parametrize(
    "media_type",
    ["application/pdf+xml", "application/xhtml+xml", "application/xml", "text/xml", "text/html", "image/svg+xml", "multipart/x-mixed-replace"],
)
def test_a_stored_page_runs_no_script_in_the_name_of_the_server(origin, media_type):
    page = b'<html xmlns="http://www.w3.org/1999/xhtml"><body><script>fetch("/")</script></body></html>'
    data_set = instance(SOPClassUID=EncapsulatedPDFStorage, MIMETypeOfEncapsulatedDocument=media_type, EncapsulatedDocument=page)
    origin.store(encode(data_set))
    answer = origin.get(f"{instance_path(data_set)}/rendered", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8")
    if answer.status_code == 200 and answer.headers["Content-Type"].split(";")[0] not in ("application/pdf", "application/octet-stream"):
        assert "sandbox" in answer.headers["Content-Security-Policy"]
        assert "allow-scripts" not in answer.headers["Content-Security-Policy"]
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
