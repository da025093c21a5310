"""HTTP of the resources (RFC 9110, RFC 9112, PS3.18 §8.1): conditions, ranges, methods, connections."""

import gzip
import http.client
import zlib
from urllib.parse import urlsplit

import pytest

import multipart
from build import encode, frame_bytes, image, instance, instance_path, series_path, study_path
from conftest import JSON

FILE = "application/dicom; transfer-syntax=*"
FRAME = "application/octet-stream; transfer-syntax=*"


@pytest.fixture(scope="module")
def stored(origin):
    data_set = image(frames=2)
    origin.store(encode(data_set))
    return data_set


def resources(data_set) -> dict:
    """The paths of resources that have an entity tag, each with its Accept."""
    path = instance_path(data_set)
    return {path: FILE, f"{path}/frames/1": FRAME, f"{path}/metadata": JSON, f"{series_path(data_set)}/metadata": JSON}


@pytest.mark.parametrize("number", range(4))
def test_a_tag_is_quoted_and_stays_while_nothing_changes(origin, stored, number):
    path, accept = list(resources(stored).items())[number]
    tags = {origin.get(path, accept).headers["ETag"] for _ in range(3)}
    (tag,) = tags
    assert tag.removeprefix("W/").startswith('"') and tag.endswith('"')


def test_different_representations_have_different_tags(origin, stored):
    path = instance_path(stored)
    asked = [(path, FILE), (f"{path}/frames/1", FRAME), (f"{path}/frames/2", FRAME), (f"{path}/metadata", JSON)]
    answers = [origin.get(*one) for one in asked]
    # A tag tells representations of one resource apart (§8.8.3): these are of one URL each, or differ.
    assert answers[1].content != answers[2].content
    multi = origin.get(f"{path}/frames/1", 'multipart/related; type="application/octet-stream"; transfer-syntax=*')
    assert multi.headers["ETag"] != answers[1].headers["ETag"]


@pytest.mark.parametrize("number", range(4))
@pytest.mark.parametrize("weakened", [False, True], ids=["as given", "weak"])
def test_a_304_has_no_body_and_repeats_the_tag(origin, stored, number, weakened):
    path, accept = list(resources(stored).items())[number]
    tag = origin.get(path, accept).headers["ETag"]
    condition = f"W/{tag}" if weakened and not tag.startswith("W/") else tag
    answer = origin.get(path, accept, If_None_Match=condition)
    assert (answer.status_code, answer.content) == (304, b"")
    assert answer.headers["ETag"] == tag


def test_a_head_request_is_conditional_too(origin, stored):
    tag = origin.get(instance_path(stored), FILE).headers["ETag"]
    answer = origin.request("HEAD", instance_path(stored), headers={"Accept": FILE, "If-None-Match": tag})
    assert answer.status_code == 304


@pytest.mark.parametrize("path, accept, whole", [("", FILE, None), ("/frames/1", FRAME, frame_bytes(1))])
def test_a_range_is_given_only_if_the_tag_still_holds(origin, stored, path, accept, whole):
    path = f"{instance_path(stored)}{path}"
    whole = whole or encode(stored)
    tag = origin.get(path, accept).headers["ETag"]
    assert not tag.startswith("W/"), "a weak tag is no validator for ranges (§13.1.5)"
    part = origin.get(path, accept, Range="bytes=2-9", If_Range=tag)
    assert (part.status_code, part.content) == (206, whole[2:10])
    assert part.headers["ETag"] == tag
    changed = origin.get(path, accept, Range="bytes=2-9", If_Range='"another"')
    assert (changed.status_code, changed.content) == (200, whole)


@pytest.mark.parametrize("asked", ["lines=1-2", "bytes", "bytes=", "bytes=5-2", "bytes=x-y", "bytes=1-2x"])
def test_a_range_that_is_not_understood_is_passed_over(origin, stored, asked):
    answer = origin.get(instance_path(stored), FILE, Range=asked)
    assert answer.status_code in (200, 416)
    if answer.status_code == 200:
        assert answer.content == encode(stored)


def test_a_suffix_longer_than_the_whole_is_the_whole(origin, stored):
    answer = origin.get(instance_path(stored), FILE, Range="bytes=-99999999")
    assert answer.status_code in (200, 206)
    assert answer.content == encode(stored)


def test_several_ranges_come_as_parts_or_as_the_whole(origin, stored):
    answer = origin.get(instance_path(stored), FILE, Range="bytes=0-3,10-19")
    assert answer.status_code in (200, 206)
    if answer.status_code == 200:
        assert answer.content == encode(stored)
    else:
        assert answer.headers["Content-Type"].startswith("multipart/byteranges")


def test_a_range_is_of_no_meaning_to_other_methods(origin):
    data_set = image()
    headers = {"Content-Type": "application/dicom", "Accept": JSON, "Range": "bytes=0-1"}
    answer = origin.request("POST", "/studies", data=encode(data_set), headers=headers)
    assert answer.status_code == 200 and answer.json()["00081199"]


def test_answers_are_dated_and_of_one_length(origin, stored):
    for path, accept in resources(stored).items():
        answer = origin.get(path, accept, Accept_Encoding="identity")
        assert answer.headers["Date"].endswith("GMT")
        if "Content-Length" in answer.headers:
            assert int(answer.headers["Content-Length"]) == len(answer.content)


@pytest.mark.parametrize(
    "path",
    ["/studies", "/series", "/instances", "/studies/{study}/series", "/studies/{study}/instances", "/studies/{study}/series/{series}/instances"],
)
def test_head_of_a_search_has_no_body(origin, stored, path):
    path = path.format(study=stored.StudyInstanceUID, series=stored.SeriesInstanceUID)
    answer = origin.request("HEAD", f"{path}?limit=1", headers={"Accept": JSON})
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["Content-Type"].split(";")[0] == JSON


@pytest.mark.parametrize("level", [study_path, series_path, instance_path])
@pytest.mark.parametrize("suffix", ["", "/metadata"])
def test_head_of_what_is_not_there_is_404_without_a_body(origin, level, suffix):
    answer = origin.request("HEAD", f"{level(image())}{suffix}")
    assert (answer.status_code, answer.content) == (404, b"")


@pytest.mark.parametrize("method", ["PATCH", "TRACE", "FROBNICATE", "get"])
@pytest.mark.parametrize("path", ["/studies", "/series"])
def test_a_method_that_is_not_known_is_405_or_501(origin, method, path):
    assert raw(origin, method, path).status in (400, 405, 501)


def raw(origin, method: str, path: str, body=None, headers=None) -> http.client.HTTPResponse:
    url = urlsplit(origin.url)
    connection = http.client.HTTPConnection(url.hostname, url.port, timeout=60)
    connection.request(method, f"{url.path}{path}", body, headers or {})
    answer = connection.getresponse()
    answer.text = answer.read()
    connection.close()
    return answer


@pytest.mark.parametrize("path", ["/", "/study", "/studies/1.2.3/frames", "/studies/1.2.3/series/4.5/instances/6/7", "/studies/1.2.3/x"])
def test_a_path_that_is_none_is_a_client_error(origin, path):
    assert 400 <= origin.get(path, JSON).status_code < 500


@pytest.mark.parametrize("coding, encoder", [("gzip", gzip.compress), ("deflate", zlib.compress), ("br", lambda body: body)])
def test_a_coded_upload_is_decoded_or_refused_as_a_whole(origin, coding, encoder):
    data_set = image()
    headers = {"Content-Type": multipart.content_type(), "Content-Encoding": coding, "Accept": JSON}
    answer = origin.request("POST", "/studies", data=encoder(multipart.write([encode(data_set)])), headers=headers)
    assert answer.status_code in (200, 400, 415)
    found = origin.json(f"/studies?StudyInstanceUID={data_set.StudyInstanceUID}")
    assert len(found) == (1 if answer.status_code == 200 else 0)


def test_a_client_that_waits_for_100_continue_gets_it(origin):
    body = multipart.write([encode(image())])
    url = urlsplit(origin.url)
    connection = http.client.HTTPConnection(url.hostname, url.port, timeout=20)
    connection.connect()
    head = f"POST {url.path}/studies HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {multipart.content_type()}\r\n"
    head += f"Accept: {JSON}\r\nContent-Length: {len(body)}\r\nExpect: 100-continue\r\n\r\n"
    connection.sock.sendall(head.encode())
    assert connection.sock.recv(65536).startswith(b"HTTP/1.1 100")
    connection.sock.sendall(body)
    assert connection.sock.recv(65536).startswith(b"HTTP/1.1 200")
    connection.close()


def test_a_connection_goes_on_after_errors(origin, stored):
    url = urlsplit(origin.url)
    connection = http.client.HTTPConnection(url.hostname, url.port, timeout=20)
    for path, accept, status in [
        ("/studies/1.2.3/metadata", JSON, 404),
        ("/studies?limit=x", JSON, 400),
        (instance_path(stored), "text/html", 406),
        (instance_path(stored), FILE, 200),
    ]:
        connection.request("GET", f"{url.path}{path}", headers={"Accept": accept})
        answer = connection.getresponse()
        answer.read()
        assert answer.status == status, path
    connection.close()


def test_http_1_0_is_spoken(origin, stored):
    class Old(http.client.HTTPConnection):
        _http_vsn, _http_vsn_str = 10, "HTTP/1.0"

    url = urlsplit(origin.url)
    connection = Old(url.hostname, url.port, timeout=20)
    connection.request("GET", f"{url.path}{instance_path(stored)}", headers={"Accept": FILE})
    answer = connection.getresponse()
    assert (answer.status, answer.read()) == (200, encode(stored))
    assert answer.getheader("Transfer-Encoding") is None
    connection.close()


@pytest.mark.parametrize("page", ["null", "http://localhost:3000", "https://viewer.example:8443"])
def test_simple_requests_of_every_origin_are_answered(origin, stored, page):
    answer = origin.get(f"{instance_path(stored)}/metadata", JSON, Origin=page)
    assert answer.headers["Access-Control-Allow-Origin"] in ("*", page)
    assert "origin" in answer.headers["Vary"].lower()


def test_a_cache_is_told_that_responses_depend_on_the_origin(origin, stored):
    # RFC 9110 §12.5.5: also a response to a request without Origin.
    answer = origin.get(f"{instance_path(stored)}/metadata", JSON)
    assert "origin" in answer.headers["Vary"].lower()


@pytest.mark.parametrize(
    "path",
    ["/studies/1.2", "/studies/1.2/metadata", "/studies/1.2/series", "/studies/1.2/series/3", "/studies/1.2/series/3/instances/4", "/studies/1.2/series/3/instances/4/frames/1"],
)
def test_a_preflight_is_answered_on_each_resource(origin, path):
    headers = {"Origin": "https://viewer.example", "Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "accept"}
    answer = origin.request("OPTIONS", path, headers=headers)
    assert answer.status_code in (200, 204)
    assert "GET" in answer.headers["Access-Control-Allow-Methods"]


def test_plain_characters_in_a_query_need_no_escapes(origin):
    data_set = instance(PatientID="a b+c&d")
    origin.store(encode(data_set))
    query = f"StudyInstanceUID={data_set.StudyInstanceUID}&PatientID="
    assert len(origin.json(f"/studies?{query}a%20b%2Bc%26d")) == 1
    assert len(origin.json(f"/studies?{query}a+b%2bc%26d")) == 1


@pytest.mark.parametrize("tail", ["/studies/", "//studies", "{instance}/", "{instance}/metadata/", "/{instance}/frames//1"])
def test_slashes_too_many_are_not_held_against_a_client(origin, stored, tail):
    """Double slashes, as clients send them that join a base URL and a resource, each with a slash."""
    path = tail.format(instance=instance_path(stored))
    plain = "/" + "/".join(segment for segment in path.split("/") if segment)
    expected = origin.get(plain, "*/*")
    answer = origin.get(path, "*/*")
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == expected.headers["Content-Type"]


@pytest.mark.parametrize("method, path", [("PUT", "/studies"), ("PATCH", "/studies"), ("POST", "/series"), ("POST", "/no-such-resource")])
def test_a_body_that_no_resource_reads_does_not_spoil_the_next_request(origin, method, path):
    """RFC 9112 §9.3: the server reads the whole body, or closes the connection with `Connection: close`."""
    url = urlsplit(origin.url)
    connection = http.client.HTTPConnection(url.hostname, url.port, timeout=60)
    connection.putrequest(method, f"{url.path}{path}")
    connection.putheader("Content-Type", "application/dicom")
    connection.putheader("Content-Length", "10")
    connection.endheaders()
    refused = connection.getresponse()
    refused.read()
    assert refused.status in (404, 405)
    if not refused.will_close:
        connection.send(b"0123456789")
        connection.request("GET", f"{url.path}/studies?limit=1", headers={"Accept": JSON})
        assert connection.getresponse().status == 200
