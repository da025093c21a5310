"""C-MOVE as an SCU (PS3.4 §C.4.2): `cuspid fetch` has another archive, here pynetdicom, send studies to the server."""

import os
import subprocess
from io import BytesIO

import pytest
from pydicom import dcmread
from pydicom.uid import CTImageStorage, generate_uid
from pynetdicom import AE, evt
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelMove as StudyRootMove

import cuspid_server
from build import encode, image
from conftest import launched
from cuspid_server import free_port


class OtherArchive:
    """An archive with some studies, which knows the address of the server."""

    def __init__(self, destination):
        self.port, self.asked = free_port(), []
        self.instances, self.destination, self.failure = [], destination, None
        entity = AE("OTHER")
        entity.add_supported_context(StudyRootMove)
        entity.add_requested_context(CTImageStorage)
        handlers = [(evt.EVT_C_MOVE, self.move)]
        self.listener = entity.start_server(("127.0.0.1", self.port), block=False, evt_handlers=handlers)

    def move(self, event):
        keys = event.identifier
        self.asked.append((event.move_destination, keys.QueryRetrieveLevel))
        if event.move_destination != "CUSPID":
            yield None, None
            return
        yield self.destination
        found = [each for each in self.instances if each.StudyInstanceUID == keys.StudyInstanceUID]
        if "SeriesInstanceUID" in keys:
            found = [each for each in found if each.SeriesInstanceUID == keys.SeriesInstanceUID]
        yield len(found)
        if self.failure:
            yield self.failure, None
            return
        for each in found:
            yield 0xFF00, each

    def add(self, **attributes):
        data_set = dcmread(BytesIO(encode(image(**attributes))))
        self.instances.append(data_set)
        return data_set


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server, origin = launched(tmp_path_factory.mktemp("server"), "log.filter=warn")
    try:
        yield server, origin
        origin.session.close()
        server.stop()
        assert "panicked" not in server.log()
    finally:
        server.kill()


@pytest.fixture
def other(origin):
    archive = OtherArchive(origin.dimse)
    yield archive
    archive.listener.shutdown()


def fetch(other, *arguments: str) -> subprocess.CompletedProcess:
    environment = {**os.environ, "CUSPID_DIMSE__PEERS": f"OTHER@127.0.0.1:{other.port}=store"}
    command = [cuspid_server.binary(), "fetch", "--from", "OTHER", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)


def instances(origin, study: str) -> set:
    answer = origin.session.get(f"{origin.url}/studies/{study}/instances")
    found = answer.json() if answer.status_code == 200 else []
    return {each["00080018"]["Value"][0] for each in found}


def test_studies_are_fetched(origin, other):
    studies = [generate_uid(), generate_uid()]
    stored = [other.add(StudyInstanceUID=study) for study in studies for _ in range(3)]
    other.add()
    done = fetch(other, "--study", studies[0], "--study", studies[1])
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [f"{study}: 3 instances" for study in studies]
    assert instances(origin, studies[0]) | instances(origin, studies[1]) == {each.SOPInstanceUID for each in stored}
    assert other.asked == [("CUSPID", "STUDY")] * 2


def test_one_series_is_fetched(origin, other):
    study = generate_uid()
    first, _ = other.add(StudyInstanceUID=study), other.add(StudyInstanceUID=study)
    done = fetch(other, "--study", study, "--series", first.SeriesInstanceUID)
    assert done.returncode == 0, done.stderr
    assert instances(origin, study) == {first.SOPInstanceUID}
    assert other.asked == [("CUSPID", "SERIES")]


def test_what_does_not_come_is_told(other):
    study = other.add().StudyInstanceUID
    done = fetch(other, "--study", study, "--to", "NOBODY")
    assert done.returncode == 1 and "--to" in done.stdout
    other.failure = 0xA702
    done = fetch(other, "--study", study)
    assert done.returncode == 1 and "A702H" in done.stdout
    done = fetch(other, "--study", study, "--study", study, "--series", "1.2")
    assert done.returncode == 1 and "--series needs exactly one --study" in done.stderr
    command = [cuspid_server.binary(), "fetch", "--from", "STRANGER", "--study", study]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and "dimse.peers has no address of `STRANGER`" in done.stderr
