"""DELETE of studies, series and instances (RFC 9110 §9.3.5): PS3.18 leaves it open, several origin servers offer it."""

import pytest
from pydicom.uid import generate_uid

from build import encode, image, instance_path, series_path, study_path, two_series
from conftest import INSTANCES


@pytest.fixture
def three(origin):
    """Two series of one study: two images and one. Skips if the server does not offer the method, for which it must answer 405 or 404."""
    data_sets = two_series()
    origin.store(*map(encode, data_sets))
    probe = image()
    origin.store(encode(probe))
    status = origin.request("DELETE", instance_path(probe)).status_code
    if status in (404, 405):
        assert origin.get(instance_path(probe), INSTANCES).status_code == 200
        pytest.skip(f"DELETE is not offered: {status}")
    assert status in (200, 202, 204)
    return data_sets


@pytest.mark.parametrize("level, left", [(instance_path, 2), (series_path, 1), (study_path, 0)])
def test_what_is_deleted_is_gone_and_the_rest_is_not(origin, three, level, left):
    path = level(three[0])
    answer = origin.request("DELETE", path)
    assert (answer.status_code, answer.content) == (204, b"")
    for gone in [path, instance_path(three[0])]:
        assert origin.get(gone, INSTANCES).status_code in (404, 410)
        assert origin.get(f"{gone}/metadata").status_code in (404, 410)
    answer = origin.get(f"/instances?StudyInstanceUID={three[0].StudyInstanceUID}")
    found = answer.json() if answer.status_code == 200 else []
    assert len(found) == left
    assert origin.get(instance_path(three[2]), INSTANCES).status_code == (200 if left else 404)


@pytest.mark.parametrize("level", [instance_path, series_path, study_path])
def test_what_is_not_there_cannot_be_deleted(origin, three, level):
    assert origin.request("DELETE", level(image())).status_code in (404, 410)
    origin.request("DELETE", level(three[0]))
    assert origin.request("DELETE", level(three[0])).status_code in (404, 410)


def test_an_instance_is_only_deleted_where_it_is(origin, three):
    path = f"{study_path(three[0])}/series/{generate_uid()}/instances/{three[0].SOPInstanceUID}"
    assert origin.request("DELETE", path).status_code in (404, 410)
    assert origin.get(instance_path(three[0]), INSTANCES).status_code == 200


def test_counts_follow(origin, three):
    origin.request("DELETE", instance_path(three[1]))
    [study] = origin.json(f"/studies?StudyInstanceUID={three[0].StudyInstanceUID}&includefield=00201206,00201208")
    assert (study["00201206"]["Value"], study["00201208"]["Value"]) == ([2], [2])
    origin.request("DELETE", instance_path(three[0]))
    [study] = origin.json(f"/studies?StudyInstanceUID={three[0].StudyInstanceUID}&includefield=00201206,00201208")
    assert (study["00201206"]["Value"], study["00201208"]["Value"]) == ([1], [1])


def test_what_a_client_holds_is_not_valid_after_it(origin, three):
    path = f"{study_path(three[0])}/metadata"
    etag = origin.get(path).headers.get("ETag")
    if etag is None:
        pytest.skip("no ETag")
    origin.request("DELETE", instance_path(three[0]))
    assert origin.get(path, If_None_Match=etag).status_code == 200


def test_what_was_deleted_can_be_stored_again_with_other_bytes(origin, three):
    origin.request("DELETE", study_path(three[0]))
    three[0].PatientName = "Roe^Jane"
    origin.store(encode(three[0]))
    assert origin.get(instance_path(three[0]), "application/dicom; transfer-syntax=*").content == encode(three[0])
