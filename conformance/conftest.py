"""The origin server under test, and a small client to speak to it in raw HTTP."""

import json
import os
from collections import Counter
from pathlib import Path

import pytest
import requests

import allowed_skips
import cuspid_server
import multipart
import orthanc_server

JSON = "application/dicom+json"
INSTANCES = 'multipart/related; type="application/dicom"; transfer-syntax=*'
FRAMES = 'multipart/related; type="application/octet-stream"; transfer-syntax=*'
RESULTS = pytest.StashKey()


class Origin:
    """An origin server: `url` is its base, without a final slash."""

    def __init__(self, url: str, dimse: tuple, ae_title: str):
        self.url, self.dimse, self.ae_title = url, dimse, ae_title
        self.session = requests.Session()
        self.answered = set()

    def request(self, method: str, path: str, **more) -> requests.Response:
        answer = self.session.request(method, f"{self.url}{path}", timeout=120, **more)
        self.answered.add((method, path.split("?")[0], answer.status_code))
        return answer

    def get(self, path: str, accept: str | None = None, **headers) -> requests.Response:
        if accept:
            headers["Accept"] = accept
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.request("GET", path, headers=headers)

    def json(self, path: str) -> list:
        answer = self.get(path, JSON)
        assert answer.status_code == 200, f"{path}: {answer.status_code} {answer.text[:300]}"
        assert answer.headers["Content-Type"].split(";")[0] == JSON
        return answer.json()

    def post(self, body: bytes, content_type: str, path: str = "/studies") -> requests.Response:
        headers = {"Content-Type": content_type, "Accept": JSON}
        return self.request("POST", path, data=body, headers=headers)

    def store(self, *files: bytes) -> None:
        """Stores files, all of them successfully."""
        answer = self.post(multipart.write(list(files)), multipart.content_type())
        assert answer.status_code == 200, answer.text[:500]


def launched(directory: Path, *settings: str):
    """Starts a server of the kind under test on a directory; returns the server and its origin."""
    if os.environ.get("CONFORMANCE_SERVER") == "orthanc":
        server, ae_title = orthanc_server.Orthanc(directory), orthanc_server.AE_TITLE
    else:
        server, ae_title = cuspid_server.Server(directory, *settings), cuspid_server.AE_TITLE
    server.start()
    return server, Origin(server.url, ("127.0.0.1", server.dimse_port), ae_title)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server and its origin, one for each file of tests; the server is `None` where one runs already."""
    url = os.environ.get("CUSPID_URL")
    if url:
        host, port = os.environ.get("CUSPID_DIMSE", "127.0.0.1:11112").split(":")
        ae_title = os.environ.get("CUSPID_AE", cuspid_server.AE_TITLE)
        yield None, Origin(url.rstrip("/"), (host, int(port)), ae_title)
        return
    # The tests speak for viewers on any origin.
    server, origin = launched(tmp_path_factory.mktemp("server"), "log.filter=warn", "http.allowed_origins=*")
    try:
        yield server, origin
        # A server that stops waits for connections that are still open.
        origin.session.close()
        ended = server.stop()
        if not isinstance(server, orthanc_server.Orthanc):
            assert ended == 0 and server.starts == 1, server.log()[-2000:]
            assert "panicked" not in server.log()
    finally:
        server.kill()


@pytest.fixture(scope="module")
def origin(server):
    return server[1]


@pytest.fixture(autouse=True)
def server_lives(request):
    """Starts a server again that a test has brought down, so that later tests do not fail with that test."""
    if "origin" in request.fixturenames:
        process, origin = request.getfixturevalue("server")
        if process and process.has_ended():
            origin.session.close()
            process.start()


def pytest_addoption(parser):
    parser.addoption("--results", help="write to this file how many cases of each test passed, failed or were skipped")


class Results:
    """How the cases of each test ended, by file and test."""

    def __init__(self):
        self.counts = {}

    def pytest_runtest_logreport(self, report):
        if report.when == "call" or not report.passed:
            test = report.nodeid.split("[")[0]
            ended = "expected" if hasattr(report, "wasxfail") else report.outcome
            self.counts.setdefault(test, Counter())[ended] += 1


def pytest_configure(config):
    config.addinivalue_line("markers", "only(parameter, values): the cases of a test in which the parameter has one of these values")
    # Another server may leave out what the standard leaves open.
    if os.environ.get("CONFORMANCE_SERVER", "cuspid") == "cuspid" and "CUSPID_URL" not in os.environ:
        config.pluginmanager.register(allowed_skips.Gate(allowed_skips.read()))
    if config.getoption("--results"):
        config.stash[RESULTS] = Results()
        config.pluginmanager.register(config.stash[RESULTS])


def pytest_collection_modifyitems(items):
    """Removes the cases that a mark `only` leaves out. The parameter itself stays the same for all tests, so that they share its fixture."""
    items[:] = [item for item in items if all(item.callspec.params[mark.args[0]] in mark.args[1] for mark in item.iter_markers("only"))]


def pytest_unconfigure(config):
    if results := config.stash.get(RESULTS, None):
        Path(config.getoption("--results")).write_text(json.dumps(results.counts, indent=1))
