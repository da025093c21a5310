"""Slow, silent, cut and many connections: the server still answers others (PS3.8 §9, RFC 9112 §9)."""

import concurrent.futures
import contextlib
import resource
import socket
import struct
import threading
import time
from urllib.parse import quote, urlsplit

import pytest
import requests
from pydicom.encaps import encapsulate
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, RLELossless
from pynetdicom import AE
from pynetdicom.presentation import build_context
from pynetdicom.sop_class import Verification

import cuspid_server
import multipart
from build import encode, image, instance_path
from conftest import INSTANCES, JSON

# The longest time that a normal request may take beside hostile connections, on a busy machine.
SOON_SECONDS = 5


def connect(origin) -> socket.socket:
    url = urlsplit(origin.url)
    return socket.create_connection((url.hostname, url.port), timeout=30)


def upload_head(origin, length: int, more: str = "") -> bytes:
    head = f"POST {urlsplit(origin.url).path}/studies HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: {JSON}\r\nConnection: close\r\n"
    return f"{head}Content-Type: {multipart.content_type()}\r\nContent-Length: {length}\r\n{more}\r\n".encode()


def answer_of(connection) -> bytes:
    with contextlib.suppress(ConnectionResetError):
        return b"".join(iter(lambda: connection.recv(65536), b""))
    return b""


def assert_others_are_served(origin):
    start = time.monotonic()
    data_set = image()
    origin.store(encode(data_set))
    assert origin.get(instance_path(data_set), INSTANCES).status_code == 200
    assert origin.json(f"/studies?StudyInstanceUID={data_set.StudyInstanceUID}")
    assert time.monotonic() - start < SOON_SECONDS


def large_rle_image(side: int):
    """An image of 16 bits and `side` rows and columns, all of one value, in RLE Lossless (PS3.5 §G): small in the file."""
    data_set = image()
    data_set.Rows = data_set.Columns = side
    run = bytes([0x81, 0x07]) * (side * side // 128)
    data_set.PixelData = encapsulate([struct.pack("<16I", 2, 64, 64 + len(run), *[0] * 13) + run * 2])
    data_set["PixelData"].VR = "OB"
    data_set["PixelData"].is_undefined_length = True
    return encode(data_set, RLELossless), data_set


def first_line(origin) -> bytes:
    return f"GET {urlsplit(origin.url).path}/studies HTTP/1.1\r\n".encode()


@pytest.mark.parametrize("sent", ["nothing", "a line", "half an upload"])
def test_silent_connections_delay_no_other_client(origin, sent):
    body = multipart.write([encode(image())])
    bytes_sent = {"nothing": b"", "a line": first_line(origin), "half an upload": upload_head(origin, len(body)) + body[:400]}[sent]
    # Fewer uploads than a server may accept at once; connections cost less.
    with contextlib.ExitStack() as stack:
        for _ in range(4 if sent == "half an upload" else 200):
            connection = stack.enter_context(connect(origin))
            connection.sendall(bytes_sent)
        assert_others_are_served(origin)


def waits_of_others(origin, count=20):
    """How long another client waits for each of some small responses, in ascending order."""
    waits = []
    for _ in range(count):
        start = time.monotonic()
        assert origin.get("/studies?limit=1&StudyInstanceUID=1.2.3", JSON).status_code in (200, 204)
        waits.append(time.monotonic() - start)
        time.sleep(0.05)
    return sorted(waits)


def test_searches_of_long_texts_delay_no_other_client(origin):
    """Three searches of long patterns in long texts, and of everything that is stored."""
    data_sets = [image(ImageComments="a" * 10_000) for _ in range(40)]
    origin.store(*map(encode, data_sets))
    patterns = ["*" + "a" * 5_000 + "b", "*" + "a*" * 3_000 + "b", "*a?" * 1_000 + "*b"]
    stop = time.monotonic() + 5

    def search(pattern):
        statuses = set()
        with requests.Session() as session:
            while time.monotonic() < stop:
                path = f"{origin.url}/instances?includefield=all&ImageComments={quote(pattern)}"
                statuses.add(session.get(path, timeout=60).status_code)
        return statuses

    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        searches = [pool.submit(search, pattern) for pattern in patterns]
        waits = waits_of_others(origin)
        assert waits[len(waits) * 95 // 100 - 1] < SOON_SECONDS / 10, waits
        assert all(search.result() <= {200, 204} for search in searches)


@pytest.mark.parametrize("value", ["PatientID=" + "x" * 1000, "00204000=*" + "a" * 30_000 + "b", "&".join(f"0019{number:04X}=1" for number in range(4096, 8192))])
def test_a_search_by_more_than_a_value_can_hold_is_a_client_error(origin, value):
    """PS3.18 §8.3.4: a query whose values no data set can have."""
    answer = origin.get(f"/studies?{value}", JSON)
    assert answer.status_code == 400
    assert value[:4] in answer.text


def test_more_silent_connections_than_a_server_accepts_delay_no_other_client(origin):
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with contextlib.ExitStack() as stack:
        for _ in range(1100):
            stack.enter_context(connect(origin)).sendall(b"GET / HT")
        assert_others_are_served(origin)


def test_uploads_that_trickle_delay_no_other_client(origin):
    """As many as a server may accept at once, and more."""
    start = upload_head(origin, 9_000_000_000) + multipart.write([encode(image())])[:400]
    stop = threading.Event()
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(connect(origin)) for _ in range(140)]
        for connection in connections:
            connection.sendall(start)

        def trickle():
            while not stop.wait(0.5):
                for connection in connections:
                    with contextlib.suppress(OSError):
                        connection.sendall(bytes(1000))

        feeder = threading.Thread(target=trickle)
        feeder.start()
        try:
            assert_others_are_served(origin)
            assert waits_of_others(origin)[-1] < SOON_SECONDS
        finally:
            stop.set()
            feeder.join()


def memory_mib(server, kind: str) -> int:
    """The memory of a server in MiB: `VmRSS`, or the most so far, `VmHWM`."""
    with open(f"/proc/{server.process.pid}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith(kind)) // 1024


def test_readers_of_large_frames_that_do_not_read_take_a_bounded_amount_of_memory(server):
    """Forty decoded frames of 32 MB would be more than a gigabyte."""
    process, origin = server
    if not isinstance(process, cuspid_server.Server):
        pytest.skip("the limit on memory is one of Cuspid, in a process of these tests")
    file, data_set = large_rle_image(4096)
    origin.store(file)
    path = f"{urlsplit(origin.url).path}{instance_path(data_set)}/frames/1"
    request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: application/octet-stream\r\n\r\n".encode()
    before = memory_mib(process, "VmRSS")
    with contextlib.ExitStack() as stack:
        for _ in range(40):
            connection = stack.enter_context(socket.socket())
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.connect((urlsplit(origin.url).hostname, urlsplit(origin.url).port))
            connection.sendall(request)
        assert_others_are_served(origin)
        assert waits_of_others(origin)[-1] < SOON_SECONDS
        time.sleep(5)
        assert memory_mib(process, "VmHWM") - before < 700


def test_clients_that_do_not_read_delay_no_other_client(origin):
    data_set = image(frames=8, rows=512, columns=512)
    origin.store(encode(data_set))
    request = f"GET {urlsplit(origin.url).path}{instance_path(data_set)} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: {INSTANCES}\r\n\r\n"
    with contextlib.ExitStack() as stack:
        for _ in range(30):
            stack.enter_context(connect(origin)).sendall(request.encode())
        assert_others_are_served(origin)


@pytest.mark.parametrize("piece", [1, 7, 64])
def test_an_upload_in_small_pieces_is_stored(origin, piece):
    data_set = image()
    body = multipart.write([encode(data_set)])
    with connect(origin) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(upload_head(origin, len(body)))
        for at in range(0, len(body), piece):
            connection.sendall(body[at : at + piece])
        assert answer_of(connection).startswith(b"HTTP/1.1 200")
    assert encode(data_set) in origin.get(instance_path(data_set), INSTANCES).content


@pytest.mark.parametrize("kept", [1, 3])
def test_a_cut_upload_keeps_its_finished_parts_whole_or_not_at_all(origin, kept):
    data_sets = [image() for _ in range(kept + 1)]
    body = multipart.write([encode(data_set) for data_set in data_sets])
    with connect(origin) as connection:
        connection.sendall(upload_head(origin, len(body)) + body[:-200])
    for data_set in data_sets[:-1]:
        answer = origin.get(instance_path(data_set), INSTANCES)
        assert answer.status_code == 404 or encode(data_set) in answer.content
    assert origin.get(instance_path(data_sets[-1]), INSTANCES).status_code == 404
    # A second request stores everything: the cut one leaves nothing that prevents this.
    origin.store(*map(encode, data_sets))


def test_answers_that_are_cut_do_no_harm(origin):
    data_set = image(frames=8, rows=512, columns=512)
    origin.store(encode(data_set))
    request = f"GET {urlsplit(origin.url).path}{instance_path(data_set)} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: {INSTANCES}\r\n\r\n"
    for _ in range(30):
        with connect(origin) as connection:
            connection.sendall(request.encode())
            assert connection.recv(10)
    assert_others_are_served(origin)


@pytest.mark.parametrize("fields", ["", "Host: 127.0.0.1\r\nHost: 127.0.0.1\r\n", "Host: a b\r\n", "Host:\r\n", "Host: a/b\r\n"])
def test_a_request_without_one_valid_host_is_400(origin, fields):
    """RFC 9112 §3.2."""
    with connect(origin) as connection:
        connection.sendall(first_line(origin) + f"{fields}Connection: close\r\n\r\n".encode())
        assert answer_of(connection).startswith(b"HTTP/1.1 400")


def test_the_host_of_a_whole_url_counts(origin):
    """RFC 9112 §3.2.2: the Host field is ignored then."""
    url = urlsplit(origin.url)
    request = f"GET {origin.url}/studies?limit=1 HTTP/1.1\r\nHost: other.example\r\nConnection: close\r\n\r\n"
    with connect(origin) as connection:
        connection.sendall(request.encode())
        answer = answer_of(connection)
    assert answer.startswith(b"HTTP/1.1 200") and url.hostname, answer[:200]


HUGE = {
    "one header of 16 MB": "X-Long: " + "x" * 16_000_000 + "\r\n",
    "10,000 headers": "".join(f"X-{number}: x\r\n" for number in range(10_000)),
    "a long name": "X" * 100_000 + ": x\r\n",
}


@pytest.mark.parametrize("more", HUGE.values(), ids=HUGE)
def test_huge_headers_are_a_client_error(origin, more):
    with connect(origin) as connection:
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            connection.sendall(first_line(origin) + f"Host: 127.0.0.1\r\n{more}\r\n".encode())
        answer = answer_of(connection)
    assert answer == b"" or answer.startswith(b"HTTP/1.1 4")
    assert_others_are_served(origin)


@pytest.mark.parametrize(
    "more",
    ["Content-Length: 5\r\n", "Transfer-Encoding: chunked\r\n", "Transfer-Encoding: xchunked\r\n", "Content-Length: -1\r\n", "Content-Length: 1e3\r\n"],
)
def test_a_body_of_two_lengths_is_not_guessed_at(origin, more):
    """RFC 9112 §6.3: a server that guesses lets requests be smuggled."""
    data_set = image()
    body = multipart.write([encode(data_set)])
    smuggled = first_line(origin) + b"Host: 127.0.0.1\r\n\r\n"
    with connect(origin) as connection:
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            connection.sendall(upload_head(origin, len(body), more) + body + smuggled)
            connection.shutdown(socket.SHUT_WR)
        answer = answer_of(connection)
    assert answer.count(b"HTTP/1.1 ") <= 1
    assert answer == b"" or answer.startswith(b"HTTP/1.1 4") or b"chunked" in more.encode()
    assert origin.get(instance_path(data_set), INSTANCES).status_code == 404


CHUNKS = {
    "no number": b"xyz\r\nabc\r\n0\r\n\r\n",
    "beyond 64 bits": b"FFFFFFFFFFFFFFFFFF\r\nabc\r\n0\r\n\r\n",
    "nearly 64 bits": b"FFFFFFFFFFFFFFF0\r\nabc\r\n",
    "negative": b"-1\r\nabc\r\n0\r\n\r\n",
    "too short": b"2\r\nabcdef\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("chunks", CHUNKS.values(), ids=CHUNKS)
def test_chunks_that_are_none_are_a_client_error(origin, chunks):
    head = f"POST {urlsplit(origin.url).path}/studies HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n"
    with connect(origin) as connection:
        connection.sendall(f"{head}Content-Type: {multipart.content_type()}\r\n\r\n".encode() + chunks)
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_WR)
        answer = answer_of(connection)
    assert answer == b"" or answer.startswith(b"HTTP/1.1 4")
    assert_others_are_served(origin)


def echo(origin) -> int:
    client = AE("CONFORMANCE")
    client.requested_contexts = [build_context(Verification)]
    association = client.associate(*origin.dimse, ae_title=origin.ae_title)
    assert association.is_established
    try:
        return association.send_c_echo().Status
    finally:
        association.release()


def test_silent_associations_delay_no_other_client(origin):
    with contextlib.ExitStack() as stack:
        for _ in range(20):
            stack.enter_context(socket.create_connection(origin.dimse, timeout=20)).sendall(b"\x01\x00\x00\x00\x10\x00")
        start = time.monotonic()
        assert echo(origin) == 0
        assert time.monotonic() - start < SOON_SECONDS
        assert_others_are_served(origin)


def test_idle_associations_delay_no_http_client(origin):
    """One peer with as many associations as it gets."""
    client = AE("CONFORMANCE")
    client.requested_contexts = [build_context(Verification)]
    held = [client.associate(*origin.dimse, ae_title=origin.ae_title) for _ in range(70)]
    try:
        assert any(association.is_established for association in held)
        assert_others_are_served(origin)
    finally:
        for association in held:
            if association.is_established:
                association.release()


def test_many_associations_are_served_at_once(origin):
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda _: echo(origin), range(32))) == {0}


def presentation_data(control: int, context: int, payload: bytes) -> bytes:
    """A P-DATA-TF with one value (PS3.8 §9.3.5)."""
    value = bytes([context, control]) + payload
    item = len(value).to_bytes(4, "big") + value
    return b"\x04\x00" + len(item).to_bytes(4, "big") + item


BROKEN_DATA = {
    "no such context": presentation_data(3, 99, bytes(12)),
    "no command": presentation_data(3, 1, b"garbage of some length"),
    "data first": presentation_data(2, 1, bytes(100)),
    "item beyond the end": b"\x04\x00\x00\x00\x00\x06\x7f\xff\xff\xff\x01\x03",
    "4 GB": b"\x04\x00\xff\xff\xff\xff" + bytes(100),
    "unknown PDU": b"\x55\x00\x00\x00\x00\x04" + bytes(4),
    "a second request": b"\x01\x00\x00\x00\x00\x44" + bytes(68),
}


@pytest.mark.parametrize("sent", BROKEN_DATA.values(), ids=BROKEN_DATA)
def test_an_association_that_goes_wrong_is_aborted_alone(origin, sent):
    client = AE("CONFORMANCE")
    client.requested_contexts = [build_context(CTImageStorage, ExplicitVRLittleEndian)]
    association = client.associate(*origin.dimse, ae_title=origin.ae_title)
    assert association.is_established
    # The association lets go of its socket once the server has aborted.
    connection = association.dul.socket.socket
    connection.sendall(sent)
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_WR)
    deadline = time.monotonic() + 20
    while association.is_established and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not association.is_established
    assert echo(origin) == 0
    assert_others_are_served(origin)


def test_a_store_that_is_cut_off_leaves_nothing(origin):
    data_set = image()
    client = AE("CONFORMANCE")
    client.requested_contexts = [build_context(CTImageStorage, ExplicitVRLittleEndian)]
    association = client.associate(*origin.dimse, ae_title=origin.ae_title)
    uid = data_set.SOPInstanceUID.encode()
    uid += bytes(len(uid) % 2)
    sop_class = CTImageStorage.encode() + bytes(len(CTImageStorage) % 2)
    elements = [(0x0002, sop_class), (0x0100, b"\x01\x00"), (0x0110, b"\x01\x00"), (0x0700, b"\0\0"), (0x0800, b"\0\0"), (0x1000, uid)]
    command = b"".join(b"\0\0" + element.to_bytes(2, "little") + len(value).to_bytes(4, "little") + value for element, value in elements)
    command = b"\0\0\0\0\x04\0\0\0" + len(command).to_bytes(4, "little") + command
    plain = encode(data_set)
    plain = plain[144 + int.from_bytes(plain[140:144], "little") :]
    connection = association.dul.socket.socket
    connection.sendall(presentation_data(3, 1, command) + presentation_data(0, 1, plain[:300]))
    connection.shutdown(socket.SHUT_RDWR)
    assert_others_are_served(origin)
    assert origin.get(instance_path(data_set), INSTANCES).status_code == 404
    origin.store(encode(data_set))
