"""Clients of other projects: dicomweb-client, and dcmtk's storescu and echoscu."""

import shutil
import subprocess

import pytest
from dicomweb_client.api import DICOMwebClient

from build import encode, frame_bytes, image, instance_path, study_path


@pytest.fixture(scope="module")
def client(origin):
    return DICOMwebClient(origin.url)


@pytest.fixture(scope="module")
def movie(client):
    data_set = image(frames=3, PatientID="dicomweb-client")
    encode(data_set)
    # Without it, dicomweb-client writes a file that dicomweb-client itself cannot read back.
    data_set.preamble = bytes(128)
    client.store_instances([data_set])
    return data_set


def ids(data_set):
    return data_set.StudyInstanceUID, data_set.SeriesInstanceUID, data_set.SOPInstanceUID


def test_dicomweb_client_searches(client, movie):
    study, series, sop_instance = ids(movie)
    (found,) = client.search_for_studies(search_filters={"StudyInstanceUID": study, "PatientName": "doe*"})
    assert found["00100020"]["Value"] == ["dicomweb-client"]
    assert len(client.search_for_series(study)) == 1
    assert len(client.search_for_instances(study, series, fields=["NumberOfFrames"], limit=5)) == 1
    assert client.search_for_instances(search_filters={"SOPInstanceUID": sop_instance}, get_remaining=True)


def test_dicomweb_client_retrieves_instances(client, movie):
    study, series, sop_instance = ids(movie)
    assert client.retrieve_instance(study, series, sop_instance) == movie
    assert client.retrieve_series(study, series) == [movie]
    assert client.retrieve_study(study) == [movie]
    assert list(client.iter_series(study, series)) == [movie]


def test_dicomweb_client_retrieves_metadata(client, movie):
    study, series, sop_instance = ids(movie)
    assert client.retrieve_instance_metadata(study, series, sop_instance)["00280008"]["Value"] == [3]
    assert len(client.retrieve_series_metadata(study, series)) == 1
    assert len(client.retrieve_study_metadata(study)) == 1


def test_dicomweb_client_retrieves_frames_and_bulk_data(client, movie):
    assert client.retrieve_instance_frames(*ids(movie), [3, 1]) == [frame_bytes(3), frame_bytes(1)]
    uri = client.retrieve_instance_metadata(*ids(movie))["7FE00010"]["BulkDataURI"]
    assert client.retrieve_bulkdata(uri) == [movie.PixelData]


def dcmtk(name, origin, *arguments):
    assert shutil.which(name), f"{name} is missing: tools/install.sh test installs it"
    command = [name, "-aec", origin.ae_title, origin.dimse[0], str(origin.dimse[1]), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_echoscu_is_answered(origin):
    done = dcmtk("echoscu", origin)
    assert done.returncode == 0, done.stderr


def test_storescu_stores(origin, tmp_path):
    data_sets = [image(rows=100, columns=100) for _ in range(20)]
    for number, data_set in enumerate(data_sets):
        (tmp_path / f"{number}.dcm").write_bytes(encode(data_set))
    done = dcmtk("storescu", origin, "--scan-directories", str(tmp_path))
    assert done.returncode == 0, done.stderr
    for data_set in data_sets:
        assert origin.get(instance_path(data_set), "application/dicom; transfer-syntax=*").status_code == 200
    (study,) = origin.json(f"/studies?StudyInstanceUID={data_sets[0].StudyInstanceUID}")
    assert study["00201208"]["Value"] == [1]


@pytest.mark.parametrize("option", ["-x=", "-xe", "-xi", "-xb", "-xs"])
def test_storescu_stores_whatever_transfer_syntax_it_prefers(origin, tmp_path, option):
    data_set = image(frames=2)
    (tmp_path / "one.dcm").write_bytes(encode(data_set))
    done = dcmtk("storescu", origin, option, str(tmp_path / "one.dcm"))
    assert done.returncode == 0, done.stderr
    for number in (1, 2):
        answer = origin.get(f"{instance_path(data_set)}/frames/{number}", "application/octet-stream; transfer-syntax=*")
        assert answer.content == frame_bytes(number)


def test_storescu_stores_a_large_multi_frame(origin, tmp_path):
    data_set = image(frames=64, rows=512, columns=512)
    (tmp_path / "large.dcm").write_bytes(encode(data_set))
    done = dcmtk("storescu", origin, str(tmp_path / "large.dcm"))
    assert done.returncode == 0, done.stderr
    answer = origin.get(f"{instance_path(data_set)}/frames/64", "application/octet-stream; transfer-syntax=*")
    assert answer.content == data_set.PixelData[-512 * 512 * 2 :]
    assert origin.json(f"/studies?StudyInstanceUID={study_path(data_set)[9:]}")
