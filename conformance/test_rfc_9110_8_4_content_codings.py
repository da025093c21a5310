"""Metadata in content codings (RFC 9110 §8.4, §12.5.3, RFC 8878): chosen by weight, compressed as one, right after each change."""

import gzip
import json
import subprocess
import time

import httpx
import pytest
import requests
import zstandard
from pydicom.uid import generate_uid

from build import encode, image, series_path, study_path
from conftest import JSON, launched

# The metadata of a quiet series may be compressed as one; this is the time for it.
DEADLINE_SECONDS = 20
COUNT = 60


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server for which a series is quiet at once, and its origin."""
    server, origin = launched(tmp_path_factory.mktemp("server"), "log.filter=warn", "preview.quiet_seconds=0")
    try:
        yield server, origin
        origin.session.close()
        assert server.stop() == 0
        assert "panicked" not in server.log()
    finally:
        server.kill()


@pytest.fixture(scope="module")
def stored(origin):
    """A series of some instances."""
    first = image()
    members = [member(first, number) for number in range(COUNT)]
    origin.store(*map(encode, members))
    return first


def member(first, number: int):
    found = image(StudyInstanceUID=first.StudyInstanceUID, SeriesInstanceUID=first.SeriesInstanceUID)
    found.SOPInstanceUID = generate_uid()
    found.InstanceNumber = number
    found.ImageComments = f"slice {number} " + "of the abdomen " * 8
    found.ImagePositionPatient = [number, -number / 3, 17 * number]
    return found


def get(origin, path: str, coding: str | None, **headers):
    """The answer with its body as it was sent."""
    headers |= {"Accept": JSON, "Accept-Encoding": coding}
    answer = origin.request("GET", path, headers=headers, stream=True)
    return answer, answer.raw.read(decode_content=False)


def decoded(answer, body: bytes) -> list:
    assert int(answer.headers["Content-Length"]) == len(body)
    coding = answer.headers.get("Content-Encoding")
    if coding == "gzip":
        body = gzip.decompress(body)
    elif coding == "zstd":
        body = zstandard.ZstdDecompressor().decompressobj().decompress(body)
    else:
        assert coding is None
    return json.loads(body)


def paths(first) -> list:
    return [f"{series_path(first)}/metadata", f"{study_path(first)}/metadata"]


@pytest.mark.parametrize("level", [0, 1], ids=["series", "study"])
@pytest.mark.parametrize("coding", ["gzip", "zstd", "identity"])
def test_each_coding_has_the_same_metadata(origin, stored, level, coding):
    path = paths(stored)[level]
    expected = sorted(requests.get(f"{origin.url}{path}").json(), key=str)
    assert len(expected) == COUNT
    for _ in range(3):
        answer, body = get(origin, path, coding)
        assert answer.headers.get("Content-Encoding", "identity") in (coding, "identity")
        assert "accept-encoding" in answer.headers["Vary"].lower()
        assert sorted(decoded(answer, body), key=str) == expected


@pytest.mark.parametrize("level", [0, 1], ids=["series", "study"])
def test_the_metadata_of_a_quiet_series_are_compressed_as_one(origin, stored, level):
    path = paths(stored)[level]
    _, plain = get(origin, path, "identity")
    limit = 1.1 * len(gzip.compress(plain, 6))
    deadline = time.monotonic() + DEADLINE_SECONDS
    while len(get(origin, path, "gzip")[1]) > limit and time.monotonic() < deadline:
        time.sleep(0.1)
    answer, body = get(origin, path, "gzip")
    assert len(body) <= limit, f"{len(body)} bytes of {len(plain)}, gzip -6 makes {limit / 1.1:.0f}"
    assert gzip.decompress(body) == plain


@pytest.mark.parametrize(
    "accepted, expected",
    [
        ("gzip;q=0.2, identity;q=0.1", "gzip"),
        ("identity, gzip;q=0.5", None),
        ("gzip;q=0", None),
        ("*;q=0, gzip", "gzip"),
        ("identity;q=0, gzip;q=0.001", "gzip"),
        ("br, x-unknown", None),
        ("", None),
    ],
)
def test_the_weights_of_the_client_decide(origin, stored, accepted, expected):
    answer, body = get(origin, paths(stored)[0], accepted)
    assert answer.headers.get("Content-Encoding") == expected
    assert len(decoded(answer, body)) == COUNT


@pytest.mark.parametrize("accepted", ["identity;q=0", "*;q=0", "br, identity;q=0"])
def test_a_client_that_excludes_every_coding_gets_406(origin, stored, accepted):
    answer, _ = get(origin, paths(stored)[0], accepted)
    assert answer.status_code == 406


@pytest.mark.parametrize("coding", ["gzip", "zstd", "identity"])
def test_each_coding_has_a_tag_that_revalidates(origin, stored, coding):
    path = paths(stored)[0]
    tags = {}
    for other in ["gzip", "identity"]:
        answer, body = get(origin, path, other)
        tags[answer.headers.get("Content-Encoding", other)] = answer.headers["ETag"]
    assert len(set(tags.values())) == len(tags)
    answer, _ = get(origin, path, coding)
    again, body = get(origin, path, coding, **{"If-None-Match": answer.headers["ETag"]})
    assert (again.status_code, body) == (304, b"")
    assert again.headers["ETag"] == answer.headers["ETag"]


def test_after_a_change_no_metadata_of_before_are_given(origin):
    first = image()
    numbers = range(8)
    stored = []
    for number in numbers:
        data_set = member(first, number)
        origin.store(encode(data_set))
        stored.append(data_set.SOPInstanceUID)
        for path in paths(first):
            for coding in ["gzip", "zstd", "identity"]:
                found = [one["00080018"]["Value"][0] for one in decoded(*get(origin, path, coding))]
                assert sorted(found) == sorted(stored)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "pacs.localhost"])
def test_references_lead_to_the_name_that_the_client_used(origin, stored, host):
    path = paths(stored)[0]
    port = origin.url.split(":")[2].split("/")[0]
    for coding in ["gzip", "zstd", "identity"]:
        for _ in range(2):
            found = decoded(*get(origin, path, coding, Host=f"{host}:{port}"))
            uris = [one["7FE00010"]["BulkDataURI"] for one in found]
            assert all(uri.startswith(f"http://{host}:{port}/") for uri in uris)


def with_curl(url: str) -> bytes:
    command = ["curl", "--silent", "--fail", "--compressed", "-H", f"Accept: {JSON}", url]
    return subprocess.run(command, capture_output=True, check=True).stdout


CLIENTS = {
    "curl": with_curl,
    "requests": lambda url: requests.get(url, headers={"Accept": JSON}).content,
    "httpx": lambda url: httpx.get(url, headers={"Accept": JSON}).content,
}


@pytest.mark.parametrize("client", CLIENTS)
def test_clients_decode_what_they_asked_for(origin, stored, client):
    for path in paths(stored):
        _, plain = get(origin, path, "identity")
        assert CLIENTS[client](f"{origin.url}{path}") == plain
