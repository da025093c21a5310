"""Store Transaction (PS3.18 §10.5), its response module (§I.2)."""

import concurrent.futures
import gzip

import pydicom
import pytest
import requests
from pydicom.uid import generate_uid

import multipart
from build import encode, image, instance, instance_path, study_path

REFERENCED, FAILED, FAILED_OTHER = "00081199", "00081198", "0008119A"


def items(answer, tag: str) -> list:
    return answer.json().get(tag, {}).get("Value", [])


def reason(item: dict) -> int:
    return item["00081197"]["Value"][0]


def post(origin, *files, path="/studies"):
    return origin.post(multipart.write(list(files)), multipart.content_type(), path)


def test_each_stored_instance_is_referenced_with_its_retrieve_url(origin):
    data_sets = [image(), image()]
    answer = post(origin, *map(encode, data_sets))
    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith("application/dicom+json")
    stored = {item["00081155"]["Value"][0]: item for item in items(answer, REFERENCED)}
    assert not items(answer, FAILED)
    for data_set in data_sets:
        item = stored[data_set.SOPInstanceUID]
        assert item["00081150"]["Value"] == [data_set.SOPClassUID]
        url = item["00081190"]["Value"][0]
        assert url.endswith(instance_path(data_set)) and url.startswith("http")
        assert origin.session.get(url, headers={"Accept": "application/dicom; transfer-syntax=*"}).ok


def test_an_instance_can_be_stored_without_multipart(origin):
    data_set = image()
    assert origin.post(encode(data_set), "application/dicom").status_code == 200
    assert origin.get(instance_path(data_set), "application/dicom; transfer-syntax=*").content == encode(data_set)


def test_the_study_of_the_url_is_accepted(origin):
    data_set = image()
    answer = post(origin, encode(data_set), path=study_path(data_set))
    assert answer.status_code == 200
    assert answer.json()["00081190"]["Value"][0].endswith(study_path(data_set))


def test_an_instance_of_another_study_than_the_url_is_a_failure(origin):
    data_set = image()
    answer = post(origin, encode(data_set), path=f"/studies/{generate_uid()}")
    assert answer.status_code == 409
    (item,) = items(answer, FAILED)
    assert item["00081155"]["Value"] == [data_set.SOPInstanceUID]
    assert 0xA900 <= reason(item) <= 0xA9FF
    assert origin.get(instance_path(data_set), "application/dicom").status_code == 404


def test_a_bad_part_does_not_spoil_the_others(origin):
    data_sets = [image(), image()]
    answer = post(origin, encode(data_sets[0]), b"this is no DICOM", encode(data_sets[1]))
    assert answer.status_code == 202
    assert len(items(answer, REFERENCED)) == 2
    (failure,) = items(answer, FAILED) + items(answer, FAILED_OTHER)
    assert 0xC000 <= reason(failure) <= 0xCFFF


def test_a_truncated_instance_is_refused(origin):
    data_set = image()
    answer = post(origin, encode(data_set)[:-10])
    assert answer.status_code == 409
    # Table I.1-1: what is known of the instance names it.
    assert [item["00081155"]["Value"] for item in items(answer, FAILED)] == [[data_set.SOPInstanceUID]]
    assert not items(answer, FAILED_OTHER)
    assert origin.get(instance_path(data_set), "application/dicom").status_code == 404


@pytest.mark.parametrize("is_in_study", [False, True])
@pytest.mark.parametrize("sop_class", ["HangingProtocolStorage", "ColorPaletteStorage", "CTDefinedProcedureProtocolStorage"])
def test_a_non_patient_object_is_refused_for_its_sop_class(origin, sop_class, is_in_study):
    """PS3.4 §GG.3: such objects belong to no study; the services of studies do not have them."""
    data_set = instance(SOPClassUID=getattr(pydicom.uid, sop_class))
    if not is_in_study:
        del data_set.StudyInstanceUID, data_set.SeriesInstanceUID
    answer = post(origin, encode(data_set))
    assert answer.status_code == 409
    (failure,) = items(answer, FAILED) + items(answer, FAILED_OTHER)
    assert reason(failure) == 0x0122


@pytest.mark.parametrize("keyword", ["StudyInstanceUID", "SeriesInstanceUID"])
def test_an_instance_without_identity_is_refused(origin, keyword):
    data_set = instance()
    delattr(data_set, keyword)
    answer = post(origin, encode(data_set))
    assert answer.status_code == 409
    (item,) = items(answer, FAILED)
    assert item["00081150"]["Value"] == [data_set.SOPClassUID]
    assert item["00081155"]["Value"] == [data_set.SOPInstanceUID]


@pytest.mark.parametrize("value", ["", "not a UID", "1..2", "1." + "2" * 63])
def test_an_identity_that_is_no_uid_is_refused(origin, value):
    data_set = instance()
    data_set.StudyInstanceUID = "PLACEHOLDER"
    file = encode(data_set)
    element = b"\x20\x00\x0d\x00UI"
    padded = value.encode() + bytes(len(value) % 2)
    file = file.replace(element + b"\x0c\x00PLACEHOLDER\x00", element + len(padded).to_bytes(2, "little") + padded)
    assert post(origin, file).status_code == 409


def test_the_same_bytes_again_succeed_and_change_nothing(origin):
    data_set = image()
    for _ in range(3):
        answer = post(origin, encode(data_set))
        assert answer.status_code == 200
        assert len(items(answer, REFERENCED)) == 1
    (study,) = origin.json(f"/studies?StudyInstanceUID={data_set.StudyInstanceUID}")
    assert study["00201208"]["Value"] == [1]


def test_the_same_bytes_twice_in_one_request_are_one_instance(origin):
    data_set = image()
    assert post(origin, encode(data_set), encode(data_set)).status_code == 200
    assert len(origin.json(f"{study_path(data_set)}/instances")) == 1


def test_other_bytes_under_a_stored_uid_do_not_replace_it(origin):
    data_set = image()
    original = encode(data_set)
    origin.store(original)
    data_set.PatientComments = "other"
    answer = post(origin, encode(data_set))
    assert answer.status_code == 409
    assert items(answer, FAILED)
    assert origin.get(instance_path(data_set), "application/dicom; transfer-syntax=*").content == original


def test_a_stored_uid_in_another_study_is_refused(origin):
    data_set = image()
    origin.store(encode(data_set))
    other = image(SOPInstanceUID=data_set.SOPInstanceUID)
    assert post(origin, encode(other)).status_code == 409
    assert origin.json(f"/studies?StudyInstanceUID={other.StudyInstanceUID}") == []


def test_an_attribute_that_cannot_be_read_does_not_cost_the_instance(origin):
    data_set = image(PatientID="7")
    file = encode(data_set).replace(b"20240115", b"99999999")
    assert post(origin, file).status_code in (200, 202)
    assert origin.get(instance_path(data_set), "application/dicom; transfer-syntax=*").content == file


@pytest.mark.parametrize(
    "content_type",
    [
        "multipart/related; type=application/dicom; boundary=XX",
        'multipart/related; type="application/dicom"; boundary="XX"',
        "multipart/related; boundary=XX; type=application/dicom",
        'Multipart/Related; Boundary=XX; Type="application/dicom"',
    ],
)
def test_the_content_type_may_be_spelled_in_every_legal_way(origin, content_type):
    data_set = image()
    body = multipart.write([encode(data_set)], boundary="XX")
    assert origin.post(body, content_type).status_code == 200


@pytest.mark.parametrize("boundary", ["-", "--", "a'()+_,-./:=?z", "0" * 69, "--- with spaces ---x"])
def test_any_legal_boundary_will_do(origin, boundary):
    data_set = image()
    body = multipart.write([encode(data_set)], boundary=boundary)
    answer = origin.post(body, f'multipart/related; type="application/dicom"; boundary="{boundary}"')
    assert answer.status_code == 200


def test_preamble_epilogue_and_leading_line_break_are_passed_over(origin):
    data_sets = [image(), image()]
    bodies = [b"preamble\r\n" + multipart.write([encode(data_sets[0])]) + b"epilogue\r\n"]
    bodies.append(b"\r\n" + multipart.write([encode(data_sets[1])]))
    for body in bodies:
        assert origin.post(body, multipart.content_type()).status_code == 200


def test_a_delimiter_within_an_instance_that_is_none_does_no_harm(origin):
    data_set = image(PatientComments=f"--{multipart.BOUNDARY}")
    assert post(origin, encode(data_set)).status_code == 200
    assert origin.get(instance_path(data_set), "application/dicom; transfer-syntax=*").content == encode(data_set)


def test_chunked_bodies_are_taken(origin):
    data_set = image(rows=64, columns=64)
    body = multipart.write([encode(data_set)])
    chunks = (body[at : at + 1000] for at in range(0, len(body), 1000))
    headers = {"Content-Type": multipart.content_type(), "Accept": "application/dicom+json"}
    assert origin.session.post(f"{origin.url}/studies", data=chunks, headers=headers).status_code == 200


@pytest.mark.parametrize("accept", [None, "*/*", "application/*", "application/json", "application/dicom+json"])
def test_the_answer_is_json_for_every_accept_that_allows_it(origin, accept):
    headers = {"Content-Type": multipart.content_type(), "Accept": accept}
    answer = origin.request("POST", "/studies", data=multipart.write([encode(image())]), headers=headers)
    assert answer.status_code == 200
    assert answer.json()[REFERENCED]


@pytest.mark.parametrize("content_type", ["text/plain", "multipart/mixed; boundary=x", "image/jpeg"])
def test_other_media_types_are_415(origin, content_type):
    assert origin.post(b"x", content_type).status_code == 415


@pytest.mark.parametrize("body", [b"", b"no parts at all", b"--" + multipart.BOUNDARY.encode() + b"--\r\n"])
def test_a_body_without_parts_is_400(origin, body):
    assert origin.post(body, multipart.content_type()).status_code == 400


def test_400_instances_of_parallel_requests_are_counted_exactly(origin):
    first = image()
    same = {"StudyInstanceUID": first.StudyInstanceUID, "SeriesInstanceUID": first.SeriesInstanceUID}
    files = [encode(image(**same)) for _ in range(400)]
    bodies = [multipart.write(files[at : at + 10]) for at in range(0, 400, 10)]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda body: origin.post(body, multipart.content_type()), bodies))
    assert {answer.status_code for answer in answers} == {200}
    (study,) = origin.json(f"/studies?StudyInstanceUID={first.StudyInstanceUID}")
    assert (study["00201206"]["Value"], study["00201208"]["Value"]) == ([1], [400])


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
@pytest.mark.parametrize("path", ["/studies", "/studies/1.2.3"])
def test_instances_are_stored_by_post_alone(origin, method, path):
    answer = origin.request(method, path, data=encode(image()), headers={"Content-Type": "application/dicom"})
    assert answer.status_code == 405
    assert "POST" in answer.headers["Allow"]


def test_a_request_without_content_type_is_refused_with_its_reason(origin):
    request = requests.Request("POST", f"{origin.url}/studies", data=encode(image())).prepare()
    request.headers.pop("Content-Type", None)
    answer = origin.session.send(request)
    assert answer.status_code in (400, 415)
    assert "Content-Type" in answer.text


def test_a_compressed_body_is_unpacked_or_415(origin):
    data_set = image()
    headers = {"Content-Type": "application/dicom", "Content-Encoding": "gzip"}
    answer = origin.request("POST", "/studies", data=gzip.compress(encode(data_set)), headers=headers)
    assert answer.status_code in (200, 415)
    if answer.ok:
        assert origin.get(instance_path(data_set), "application/dicom; transfer-syntax=*").content == encode(data_set)
    headers["Content-Encoding"] = "unheard-of"
    assert origin.request("POST", "/studies", data=encode(data_set), headers=headers).status_code == 415


def test_a_created_study_is_located(origin):
    data_set = image()
    answer = post(origin, encode(data_set))
    assert answer.headers["Location"].endswith(study_path(data_set))
    assert answer.headers["Content-Location"]
