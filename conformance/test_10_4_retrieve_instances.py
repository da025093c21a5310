"""Retrieve Transaction of instances (PS3.18 §10.4), at three levels."""

from io import BytesIO

import pytest
from pydicom import dcmread
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, generate_uid

import multipart
from build import encode, image, instance_path, series_path, study_path, two_series
from conftest import INSTANCES

SINGLE = "application/dicom; transfer-syntax=*"


@pytest.fixture(scope="module")
def three(origin):
    """Two series of one study: two images and one."""
    data_sets = two_series()
    origin.store(*map(encode, data_sets))
    return data_sets


def test_each_level_gives_its_instances_byte_for_byte(origin, three):
    files = [encode(data_set) for data_set in three]
    for path, expected in [
        (study_path(three[0]), files),
        (series_path(three[0]), files[:2]),
        (series_path(three[2]), files[2:]),
        (instance_path(three[1]), files[1:2]),
    ]:
        answer = origin.get(path, INSTANCES)
        assert answer.status_code == 200
        media_type, parameters = multipart.parameters(answer.headers["Content-Type"])
        assert (media_type, parameters["type"]) == ("multipart/related", "application/dicom")
        parts = multipart.read(answer)
        assert sorted(part.body for part in parts) == sorted(expected), path
        for part in parts:
            assert part.headers["content-type"].startswith("application/dicom")


def test_one_instance_comes_without_multipart_where_asked(origin, three):
    answer = origin.get(instance_path(three[0]), SINGLE)
    assert answer.headers["Content-Type"].startswith("application/dicom")
    assert answer.content == encode(three[0])
    assert int(answer.headers["Content-Length"]) == len(answer.content)


@pytest.mark.parametrize(
    "accept",
    [
        None,
        "*/*",
        "multipart/related",
        "multipart/related; type=application/dicom",
        'multipart/related;type="application/dicom";transfer-syntax="*"',
        'multipart/related; type="application/dicom"; transfer-syntax=1.2.840.10008.1.2.1',
        'image/png;q=0.9, multipart/related; type="application/dicom"; transfer-syntax=*;q=0.5',
    ],
)
def test_every_legal_spelling_of_accept_is_understood(origin, three, accept):
    answer = origin.get(study_path(three[0]), accept)
    assert answer.status_code == 200
    assert len(multipart.read(answer)) == 3


def test_the_accept_query_parameter_takes_the_place_of_the_header(origin, three):
    answer = origin.get(f"{instance_path(three[0])}?accept=application/dicom%3B%20transfer-syntax%3D*", "*/*")
    assert answer.status_code == 200
    assert answer.content == encode(three[0])


def test_what_cannot_be_made_is_406(origin, three):
    for accept in ["text/html", "image/png", "application/dicom; transfer-syntax=1.2.840.10008.1.2.4.102"]:
        assert origin.get(instance_path(three[0]), accept).status_code == 406, accept


@pytest.mark.parametrize("accept", ["application/dicom", SINGLE, "*/*", f"{SINGLE}, application/dicom"])
def test_implicit_vr_is_given_in_explicit_vr(origin, accept):
    """§8.7.3: Implicit VR Little Endian shall not be used with web services."""
    data_set = image()
    origin.store(encode(data_set, ImplicitVRLittleEndian))
    answer = origin.get(instance_path(data_set), accept)
    found = multipart.read(answer)[0].body if "multipart" in answer.headers["Content-Type"] else answer.content
    given = dcmread(BytesIO(found))
    assert given.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    assert given.PixelData == data_set.PixelData
    assert given.PatientName == data_set.PatientName


@pytest.mark.parametrize("level", [study_path, series_path, instance_path])
def test_what_is_not_stored_is_404(origin, three, level):
    assert origin.get(level(image()), INSTANCES).status_code == 404
    assert origin.get(f"/studies/{three[0].StudyInstanceUID}/series/{generate_uid()}", INSTANCES).status_code == 404


@pytest.mark.parametrize("path", ["/studies/..", "/studies/1.2.x", f"/studies/{'1' * 65}", "/studies/1.2%2F3"])
def test_a_path_without_valid_uids_is_a_client_error(origin, path):
    assert 400 <= origin.get(path, INSTANCES).status_code < 500


def test_head_tells_what_get_would(origin, three):
    for path in [instance_path(three[0]), series_path(three[0])]:
        head = origin.request("HEAD", path, headers={"Accept": INSTANCES})
        get = origin.get(path, INSTANCES)
        assert head.status_code == 200 and head.content == b""
        for name in ["Content-Length", "ETag"]:
            assert head.headers.get(name) == get.headers.get(name), name
        # The boundary of an answer whose parts are not known beforehand may differ.
        types = [multipart.parameters(answer.headers["Content-Type"]) for answer in (head, get)]
        assert types[0][0] == types[1][0] and types[0][1]["type"] == types[1][1]["type"]


def test_an_answer_with_ranges_is_the_same_each_time(origin, three):
    """Boundary and order must stay the same where ranges are supported (§8.6.1.2)."""
    for path in [instance_path(three[0]), series_path(three[0]), study_path(three[0])]:
        answers = [origin.get(path, INSTANCES) for _ in range(2)]
        if answers[0].headers.get("Accept-Ranges") == "bytes":
            assert answers[0].content == answers[1].content


def test_what_a_client_has_is_not_sent_again(origin, three):
    etag = origin.get(instance_path(three[0]), SINGLE).headers["ETag"]
    answer = origin.get(instance_path(three[0]), SINGLE, If_None_Match=etag)
    assert answer.status_code == 304 and answer.content == b""
    assert origin.get(instance_path(three[0]), SINGLE, If_None_Match='"other"').status_code == 200


@pytest.mark.parametrize("asked, expected", [("0-99", slice(0, 100)), ("100-", slice(100, None)), ("-50", slice(-50, None)), ("7-7", slice(7, 8))])
def test_ranges_are_parts_of_the_whole(origin, three, asked, expected):
    whole = encode(three[0])
    answer = origin.get(instance_path(three[0]), SINGLE, Range=f"bytes={asked}")
    assert answer.status_code == 206
    assert answer.content == whole[expected]
    start, stop, _ = expected.indices(len(whole))
    assert answer.headers["Content-Range"] == f"bytes {start}-{stop - 1}/{len(whole)}"


def test_a_range_behind_the_end_is_416(origin, three):
    answer = origin.get(instance_path(three[0]), SINGLE, Range="bytes=99999999-")
    assert answer.status_code == 416
    assert answer.headers["Content-Range"] == f"bytes */{len(encode(three[0]))}"
