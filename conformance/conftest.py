"""The origin server under test, and a small client to speak to it in raw HTTP."""

import os
from pathlib import Path

import pytest
import requests

import multipart
from cuspid_server import AE_TITLE, Server

JSON = "application/dicom+json"
INSTANCES = 'multipart/related; type="application/dicom"; transfer-syntax=*'
FRAMES = 'multipart/related; type="application/octet-stream"; transfer-syntax=*'


class Origin:
    """An origin server: `url` is its base, without a final slash."""

    def __init__(self, url: str, dimse: tuple, ae_title: str):
        self.url, self.dimse, self.ae_title = url, dimse, ae_title
        self.session = requests.Session()

    def request(self, method: str, path: str, **more) -> requests.Response:
        return self.session.request(method, f"{self.url}{path}", timeout=120, **more)

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


def started(directory: Path):
    server = Server(directory, "log.filter=warn")
    try:
        server.start()
        origin = Origin(server.url, ("127.0.0.1", server.dimse_port), AE_TITLE)
        yield origin
        # A server waits a moment for connections that are still open.
        origin.session.close()
        assert server.stop() == 0, server.log()[-2000:]
        assert "panicked" not in server.log()
    finally:
        if server.process:
            server.kill()


@pytest.fixture(scope="session")
def origin(tmp_path_factory):
    url = os.environ.get("CUSPID_URL")
    if url:
        host, port = os.environ.get("CUSPID_DIMSE", "127.0.0.1:11112").split(":")
        yield Origin(url.rstrip("/"), (host, int(port)), os.environ.get("CUSPID_AE", AE_TITLE))
    else:
        yield from started(tmp_path_factory.mktemp("server"))
