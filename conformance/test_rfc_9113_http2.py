"""HTTP/2 and TLS (RFC 9113, RFC 9325, PS3.15 §B.12): versions, streams and names; hostile streams; a renewed certificate."""

import asyncio
import contextlib
import json
import socket
import ssl
import subprocess
import threading
import time
import urllib.request

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import h2.settings
import httpx
import pytest

import cuspid_server
import multipart
from build import encode, frame_bytes, image, instance_path, series_path
from conftest import JSON

FRAME = "application/octet-stream; transfer-syntax=*"
MAX_STREAMS = 64
IDLE_SECONDS = 3


def certificate(directory, name: str = "tls"):
    """Makes a certificate for this machine; returns its file and that of its key."""
    certificate, key = directory / f"{name}.pem", directory / f"{name}.key"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    command += ["-subj", f"/CN={name}", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    subprocess.run([*command, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    return certificate, key


class TlsServer(cuspid_server.Server):
    """A server with TLS and a certificate of its own."""

    def __init__(self, directory):
        self.certificate, self.key = certificate(directory)
        settings = [f"http.tls_certificate={self.certificate}", f"http.tls_key={self.key}", "http.tls_reload_seconds=1"]
        settings += [f"http.max_streams_per_connection={MAX_STREAMS}", f"http.idle_timeout_seconds={IDLE_SECONDS}"]
        settings += ["http.first_request_timeout_seconds=3", "log.filter=warn"]
        super().__init__(directory, *settings)
        self.origin = f"https://127.0.0.1:{self.http_port}"
        self.url = f"{self.origin}/dicom-web"

    def context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self.certificate)

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and self.process.poll() is None:
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"{self.origin}/readyz", timeout=5, context=self.context()).close()
                return
            time.sleep(0.02)
        raise RuntimeError("the server did not become ready:\n" + self.log()[-2000:])

    def client(self, **more) -> httpx.Client:
        return httpx.Client(verify=self.context(), http2=True, timeout=60, **more)


@pytest.fixture(scope="module")
def tls(tmp_path_factory):
    server = TlsServer(tmp_path_factory.mktemp("tls"))
    server.start()
    try:
        yield server
        assert server.stop() == 0
        # h2 0.4 has a `debug_assert` that a connection which ends has no streams; it was seen to fail once. Release builds
        # have no such check, and the connection had ended.
        known = "/proto/streams/counts.rs"
        panics = [line for line in server.log().splitlines() if "panicked" in line and known not in line]
        assert not panics
    finally:
        server.kill()


@pytest.fixture(scope="module")
def stored(tls):
    data_set = image(frames=4)
    with tls.client() as client:
        store(client, tls, encode(data_set))
    return data_set


def store(client, tls, *files: bytes):
    headers = {"Content-Type": multipart.content_type(), "Accept": JSON}
    answer = client.post(f"{tls.url}/studies", content=multipart.write(list(files)), headers=headers)
    assert answer.status_code == 200, answer.text
    assert answer.http_version == "HTTP/2"
    return answer


class Http2:
    """A connection of HTTP/2 by hand."""

    def __init__(self, tls, **settings):
        context = tls.context()
        context.set_alpn_protocols(["h2"])
        plain = socket.create_connection(("127.0.0.1", tls.http_port), timeout=30)
        self.socket = context.wrap_socket(plain, server_hostname="127.0.0.1")
        assert self.socket.selected_alpn_protocol() == "h2"
        self.is_closed = False
        self.authority = f"127.0.0.1:{tls.http_port}"
        config = h2.config.H2Configuration(validate_outbound_headers=False, normalize_outbound_headers=False)
        self.h2 = h2.connection.H2Connection(config)
        self.h2.initiate_connection()
        if settings:
            self.h2.update_settings(settings)
        self.send()

    def send(self):
        self.socket.sendall(self.h2.data_to_send())

    def get(self, path: str, *more, authority=None, end=True, method="GET") -> int:
        stream = self.h2.get_next_available_stream_id()
        head = [(":method", method), (":scheme", "https"), (":path", path)]
        head += [(":authority", self.authority if authority is None else authority)] * (authority != "")
        self.h2.send_headers(stream, head + list(more), end_stream=end)
        self.send()
        return stream

    def events(self):
        """Events until the connection ends."""
        while True:
            try:
                received = self.socket.recv(65536)
            except (ConnectionResetError, ssl.SSLError):
                return
            if not received:
                return
            try:
                yield from self.h2.receive_data(received)
            except h2.exceptions.ProtocolError:
                # This library refuses the PING after GOAWAY by which a server sees that the client has read it (§6.8).
                self.is_closed = True
                return
            with contextlib.suppress(OSError):
                self.send()

    def status(self, stream: int) -> str:
        for event in self.events():
            if isinstance(event, h2.events.ResponseReceived) and event.stream_id == stream:
                return dict(event.headers)[b":status"].decode()
            if isinstance(event, h2.events.StreamReset) and event.stream_id == stream:
                return "reset"
        return "end"


def s_client(tls, *options: str) -> str:
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{tls.http_port}", "-CAfile", tls.certificate, *options]
    ended = subprocess.run(command, input=b"", capture_output=True, timeout=30)
    return (ended.stdout + ended.stderr).decode(errors="replace")


@pytest.mark.parametrize("version, is_spoken", [("tls1_3", True), ("tls1_2", True), ("tls1_1", False), ("tls1", False)])
def test_tls_is_of_version_1_2_or_1_3(tls, version, is_spoken):
    # Level 0 lets the client offer old versions.
    answer = s_client(tls, f"-{version}", "-cipher", "DEFAULT:@SECLEVEL=0")
    assert ("Verify return code: 0 (ok)" in answer and "Cipher is (NONE)" not in answer) == is_spoken, answer


@pytest.mark.parametrize("suite", ["AES128-GCM-SHA256", "ECDHE-RSA-AES128-SHA", "DHE-RSA-AES128-SHA", "NULL-SHA256", "ECDHE-ECDSA-AES256-SHA384"])
def test_suites_without_forward_secrecy_or_authenticated_encryption_are_refused(tls, suite):
    answer = s_client(tls, "-tls1_2", "-cipher", f"{suite}:@SECLEVEL=0")
    assert "Cipher is (NONE)" in answer or "Cipher    : 0000" in answer or "no ciphers available" in answer, answer


@pytest.mark.parametrize("offered, expected", [("h2,http/1.1", "h2"), ("http/1.1", "http/1.1"), ("h2", "h2")])
def test_the_version_of_http_is_agreed_on_by_alpn(tls, offered, expected):
    assert f"ALPN protocol: {expected}" in s_client(tls, "-alpn", offered)


@pytest.mark.parametrize("version", ["--http2", "--http1.1"])
def test_curl_gets_metadata_whose_references_are_of_https(tls, stored, version):
    command = ["curl", "--silent", "--fail", version, "--compressed", "--cacert", tls.certificate, "--write-out", "%{stderr}%{http_version}"]
    ended = subprocess.run([*command, f"{tls.url}{series_path(stored)}/metadata"], capture_output=True, check=True)
    assert ended.stderr.decode() == {"--http2": "2", "--http1.1": "1.1"}[version]
    (found,) = json.loads(ended.stdout)
    uri = found["7FE00010"]["BulkDataURI"]
    assert uri.startswith(f"{tls.url}/studies/")
    with tls.client() as client:
        assert client.get(uri).status_code == 200


def test_every_response_says_that_the_server_speaks_https(tls, stored):
    with tls.client() as client:
        for path in ["/readyz", "/dicom-web/studies", "/dicom-web/nothing"]:
            assert "max-age=" in client.get(f"{tls.origin}{path}").headers["Strict-Transport-Security"]


def test_http_without_tls_gets_an_answer_that_says_so(tls):
    with socket.create_connection(("127.0.0.1", tls.http_port), timeout=30) as plain:
        plain.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answer = b"".join(iter(lambda: plain.recv(65536), b""))
    head, body = answer.split(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ") and b"https" in body
    assert f"Content-Length: {len(body)}".encode() in head


def on_one_connection(tls, requests):
    """The answers to concurrent requests: functions of a client, which return coroutines."""

    async def run():
        limits = httpx.Limits(max_connections=1)
        async with httpx.AsyncClient(verify=tls.context(), http2=True, timeout=60, limits=limits) as client:
            return await asyncio.gather(*[request(client) for request in requests])

    answers = asyncio.run(run())
    assert {answer.http_version for answer in answers} == {"HTTP/2"}
    return answers


def test_frames_come_on_one_connection_in_any_order(tls, stored):
    numbers = [1 + number % 4 for number in range(200)]
    get = lambda number: lambda client: client.get(f"{tls.url}{instance_path(stored)}/frames/{number}", headers={"Accept": FRAME})
    for number, answer in zip(numbers, on_one_connection(tls, map(get, numbers)), strict=True):
        assert (answer.status_code, answer.content) == (200, frame_bytes(number))


def test_large_uploads_and_downloads_run_beside_each_other(tls):
    images = [image(frames=40, Rows=256, Columns=256, PixelData=bytes([number]) * (40 * 256 * 256 * 2)) for number in range(8)]
    headers = {"Content-Type": multipart.content_type(), "Accept": JSON}
    post = lambda one: lambda client: client.post(f"{tls.url}/studies", content=multipart.write([encode(one)]), headers=headers)
    assert {answer.status_code for answer in on_one_connection(tls, map(post, images))} == {200}
    path = lambda one: f"{tls.url}{instance_path(one)}/bulkdata/7FE00010"
    get = lambda one: lambda client: client.get(path(one), headers={"Accept": "application/octet-stream"})
    for one, answer in zip(images, on_one_connection(tls, map(get, images)), strict=True):
        assert answer.content == one.PixelData


def test_a_refused_upload_leaves_the_connection_open(tls):
    connection = Http2(tls)
    for _ in range(3):
        stream = connection.get("/dicom-web/studies", ("content-type", "text/plain"), end=False, method="POST")
        assert connection.status(stream) == "415"
    assert connection.status(connection.get("/readyz")) == "200"


@pytest.mark.parametrize(
    "authority, more, expected",
    [
        (None, [], "200"),
        ("", [], "400"),
        ("a b", [], "400"),
        ("user@127.0.0.1", [], "400"),
        (None, [("host", "other.example")], "400"),
        ("rebound.example", [], "421"),
    ],
)
def test_the_authority_is_the_host(tls, authority, more, expected):
    connection = Http2(tls)
    stream = connection.get("/dicom-web/studies", *more, authority=authority)
    # A library may reset such a stream before the server sees it.
    assert connection.status(stream) in ({expected} if expected in ("200", "421") else {expected, "reset"})


def test_a_connection_has_a_limited_number_of_streams(tls):
    connection = Http2(tls)
    assert next(event for event in connection.events() if isinstance(event, h2.events.RemoteSettingsChanged))
    assert connection.h2.remote_settings.max_concurrent_streams == MAX_STREAMS
    # Against the limit (§5.1.2): a library that does not count opens more uploads than that, which stay open.
    connection.h2.remote_settings._settings[h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS].appendleft(10_000)
    streams = []
    with contextlib.suppress(h2.exceptions.ProtocolError, OSError):
        for _ in range(MAX_STREAMS + 8):
            streams.append(connection.get("/dicom-web/studies", end=False))
    refused = set()
    for event in connection.events():
        if isinstance(event, h2.events.StreamReset):
            refused.add(event.stream_id)
        if len(refused) >= 8 or isinstance(event, h2.events.ConnectionTerminated):
            break
    assert refused or connection.is_closed
    with tls.client() as client:
        assert client.get(f"{tls.origin}/readyz").status_code == 200


def test_streams_that_are_reset_at_once_end_the_connection_and_no_other(tls):
    connection = Http2(tls)
    with contextlib.suppress(OSError, h2.exceptions.ProtocolError):
        for _ in range(5000):
            stream = connection.get("/dicom-web/studies")
            connection.h2.reset_stream(stream, h2.errors.ErrorCodes.CANCEL)
            connection.send()
    list(connection.events())
    with tls.client() as client:
        start = time.monotonic()
        assert client.get(f"{tls.url}/studies").status_code == 200
        assert time.monotonic() - start < 5


def test_a_stream_that_is_not_read_ends_its_connection_and_no_other(tls):
    large = image(frames=40, Rows=256, Columns=256, PixelData=bytes(40 * 256 * 256 * 2))
    with tls.client() as client:
        store(client, tls, encode(large))
    connection = Http2(tls)
    silent = connection.get(f"/dicom-web{instance_path(large)}/bulkdata/7FE00010", ("accept", "application/octet-stream"))
    start = time.monotonic()
    received = sum(len(event.data) for event in connection.events() if isinstance(event, h2.events.DataReceived) and event.stream_id == silent)
    assert 0 < received < 100_000
    assert IDLE_SECONDS - 0.5 < time.monotonic() - start < 6 * IDLE_SECONDS
    with tls.client() as client:
        assert client.get(f"{tls.origin}/readyz").status_code == 200


@pytest.mark.parametrize("sent", ["nothing", "half a handshake", "a preface", "a connection"])
def test_silent_connections_end(tls, sent):
    plain = socket.create_connection(("127.0.0.1", tls.http_port), timeout=30)
    if sent == "half a handshake":
        plain.sendall(bytes.fromhex("1603010200010001fc0303"))
    elif sent in ("a preface", "a connection"):
        context = tls.context()
        context.set_alpn_protocols(["h2"])
        plain = context.wrap_socket(plain, server_hostname="127.0.0.1")
        plain.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        if sent == "a connection":
            plain.sendall(bytes.fromhex("000000040000000000"))
    start = time.monotonic()
    with contextlib.suppress(OSError):
        while plain.recv(65536):
            pass
    assert time.monotonic() - start < 15


def test_an_idle_connection_ends_by_a_goaway(tls):
    connection = Http2(tls)
    assert connection.status(connection.get("/readyz")) == "200"
    start = time.monotonic()
    events = list(connection.events())
    assert connection.is_closed or any(isinstance(event, h2.events.ConnectionTerminated) for event in events)
    assert IDLE_SECONDS - 0.5 < time.monotonic() - start < 5 * IDLE_SECONDS


def served_name(tls) -> str:
    answer = s_client(tls)
    return next(line for line in answer.splitlines() if line.startswith("subject=")).split("CN = ")[-1].split("CN=")[-1]


def wait_until(is_true):
    deadline = time.monotonic() + 20
    while not is_true() and time.monotonic() < deadline:
        time.sleep(0.2)
    assert is_true()


def test_a_renewed_certificate_is_used_without_a_restart(tls, tmp_path):
    """The last test: it replaces the certificate."""
    before = (tls.certificate.read_bytes(), tls.key.read_bytes())
    with tls.client() as client:
        assert client.get(f"{tls.origin}/readyz").status_code == 200
        tls.certificate.write_bytes(b"-----BEGIN CERTIFICATE-----\nbroken\n-----END CERTIFICATE-----\n")
        failures = lambda: client.get(f"{tls.origin}/metrics").text.split("\ncuspid_tls_reload_failures_total ")
        wait_until(lambda: len(failures()) == 2)
        renewed = certificate(tmp_path, "renewed")
        tls.certificate.write_bytes(renewed[0].read_bytes())
        # The key of another certificate, until the key follows.
        time.sleep(1.5)
        assert served_name(tls) == "tls"
        tls.key.write_bytes(renewed[1].read_bytes())
        wait_until(lambda: served_name(tls) == "renewed")
        # The open connection goes on.
        assert client.get(f"{tls.origin}/readyz").status_code == 200
    tls.certificate.write_bytes(before[0])
    tls.key.write_bytes(before[1])
    wait_until(lambda: served_name(tls) == "tls")
    assert "http.tls" in tls.log()


@pytest.mark.parametrize("fault", ["no file", "no certificate", "no key", "another key", "certificate alone"])
def test_a_certificate_that_cannot_be_used_is_an_error_at_start(tmp_path, fault):
    certificate_file, key = certificate(tmp_path)
    settings = [f"http.tls_certificate={certificate_file}", f"http.tls_key={key}"]
    if fault == "no file":
        certificate_file.unlink()
    elif fault == "no certificate":
        certificate_file.write_text("")
    elif fault == "no key":
        key.write_bytes(certificate_file.read_bytes())
    elif fault == "another key":
        settings[1] = f"http.tls_key={certificate(tmp_path, 'other')[1]}"
    else:
        settings.pop()
    server = cuspid_server.Server(tmp_path, *settings)
    server.launch()
    try:
        assert server.process.wait(30) != 0
    finally:
        server.kill()
    assert "http.tls_" in server.log()


def test_a_stop_ends_idle_connections_and_finishes_requests(tmp_path):
    server = TlsServer(tmp_path)
    server.start()
    try:
        data_set = image()
        with server.client() as client:
            store(client, server, encode(data_set))
            ended = []
            stopping = threading.Thread(target=lambda: ended.append(server.stop()))
            stopping.start()
            stopping.join(20)
            assert ended == [0]
    finally:
        server.kill()
