"""Storage Commitment Push Model as an SCP (PS3.4 Annex J), by pynetdicom."""

import threading
import time

import pytest
import requests
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, MRImageStorage, generate_uid
from pynetdicom import AE, evt
from pynetdicom.presentation import build_context
from pynetdicom.sop_class import StorageCommitmentPushModel, StorageCommitmentPushModelInstance

from build import encode, image
from conftest import launched
from cuspid_server import free_port

LISTENER_PORT = free_port()
SUCCESS = 0x0000


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    peers = f"dimse.peers=*=store+commit,LISTENER@127.0.0.1:{LISTENER_PORT}=commit"
    server, origin = launched(tmp_path_factory.mktemp("server"), "log.filter=warn", peers)
    try:
        yield server, origin
        origin.session.close()
        server.stop()
        assert "panicked" not in server.log()
    finally:
        server.kill()


class Reports:
    """The reports that a peer gets. `answers` are the statuses of its responses, one after the other; then all succeed."""

    def __init__(self, *answers: int):
        self.all, self.has_come, self.answers = [], threading.Event(), list(answers)

    def take(self, event):
        self.all.append((event.request.EventTypeID, event.event_information, event.assoc))
        self.has_come.set()
        return self.answers.pop(0) if self.answers else SUCCESS, None

    def wait_for(self, count: int) -> list:
        until(lambda: len(self.all) >= count)
        return self.all

    def only(self) -> tuple:
        assert self.has_come.wait(20)
        (report,) = self.all
        return report


def until(is_true, seconds: float = 40):
    deadline = time.monotonic() + seconds
    while not is_true():
        assert time.monotonic() < deadline, "this did not happen in time"
        time.sleep(0.02)


def listening(port: int, reports: Reports):
    """A peer at its address."""
    listener = AE("LISTENER")
    listener.add_supported_context(StorageCommitmentPushModel, scu_role=False, scp_role=True)
    return listener.start_server(("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_N_EVENT_REPORT, reports.take)])


def state(server, title: str) -> dict:
    """The state of the reports to a peer."""
    answer = requests.get(f"http://127.0.0.1:{server.http_port}/status", timeout=30).json()
    (found,) = [each for each in answer["commitments"] if each["peer"] == title]
    return found


@pytest.fixture
def requestor(origin):
    opened = []

    def requestor(title: str, handlers=()):
        client = AE(title)
        client.dimse_timeout = client.network_timeout = 30
        client.requested_contexts = [build_context(StorageCommitmentPushModel)]
        association = client.associate(*origin.dimse, ae_title=origin.ae_title, evt_handlers=list(handlers))
        assert association.is_established
        opened.append(association)
        return association

    yield requestor
    for association in opened:
        if association.is_established:
            association.release()


def information(*references) -> Dataset:
    data_set = Dataset()
    data_set.TransactionUID = generate_uid()
    data_set.ReferencedSOPSequence = []
    for sop_class, sop_instance in references:
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class, sop_instance
        data_set.ReferencedSOPSequence.append(item)
    return data_set


def ask(association, asked: Dataset, action: int = 1, instance: str = StorageCommitmentPushModelInstance) -> int:
    status, _ = association.send_n_action(asked, action, StorageCommitmentPushModel, instance)
    return status.Status


def test_what_is_stored_is_committed_on_the_same_association(origin, requestor):
    stored = [image(), image()]
    origin.store(*(encode(data_set) for data_set in stored))
    asked = information(*((CTImageStorage, data_set.SOPInstanceUID) for data_set in stored))
    reports = Reports()
    association = requestor("MODALITY", [(evt.EVT_N_EVENT_REPORT, reports.take)])
    assert ask(association, asked) == SUCCESS
    event_type, report, reported_on = reports.only()
    assert event_type == 1 and reported_on is association
    assert report.TransactionUID == asked.TransactionUID
    assert report.ReferencedSOPSequence == asked.ReferencedSOPSequence
    assert "FailedSOPSequence" not in report
    reports.all.clear()
    reports.has_come.clear()
    assert ask(association, information((CTImageStorage, stored[0].SOPInstanceUID))) == SUCCESS, "the association goes on"
    assert reports.only()[0] == 1


def test_what_is_not_stored_fails_with_its_reason(origin, requestor):
    stored, unknown = image(), generate_uid()
    origin.store(encode(stored))
    asked = information((CTImageStorage, stored.SOPInstanceUID), (CTImageStorage, unknown), (MRImageStorage, stored.SOPInstanceUID))
    reports = Reports()
    assert ask(requestor("MODALITY", [(evt.EVT_N_EVENT_REPORT, reports.take)]), asked) == SUCCESS
    event_type, report, _ = reports.only()
    assert event_type == 2
    assert [item.ReferencedSOPInstanceUID for item in report.ReferencedSOPSequence] == [stored.SOPInstanceUID]
    failed = [(item.ReferencedSOPInstanceUID, item.FailureReason) for item in report.FailedSOPSequence]
    assert failed == [(unknown, 0x0112), (stored.SOPInstanceUID, 0x0119)]


def test_an_object_that_is_gone_is_not_committed(server, requestor):
    process, origin = server
    stored = image()
    origin.store(encode(stored))
    files = list(process.data.glob(f"originals/*/*/*/{stored.SOPInstanceUID}-*.dcm"))
    if not files:
        pytest.skip("the objects are not in the data directory")
    files[0].unlink()
    reports = Reports()
    asked = information((CTImageStorage, stored.SOPInstanceUID))
    assert ask(requestor("MODALITY", [(evt.EVT_N_EVENT_REPORT, reports.take)]), asked) == SUCCESS
    event_type, report, _ = reports.only()
    assert event_type == 2 and report.FailedSOPSequence[0].FailureReason == 0x0110


def test_a_peer_with_an_address_gets_the_report_on_another_association(origin, requestor):
    stored = image()
    origin.store(encode(stored))
    reports = Reports()
    association = requestor("LISTENER")
    assert ask(association, information((CTImageStorage, stored.SOPInstanceUID))) == SUCCESS
    association.release()
    # The listener starts late: the server tries again.
    server = listening(LISTENER_PORT, reports)
    try:
        event_type, report, _ = reports.only()
        assert event_type == 1 and report.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == stored.SOPInstanceUID
    finally:
        server.shutdown()


def test_a_report_that_is_refused_for_now_is_sent_again(server, requestor):
    process, origin = server
    stored = image()
    origin.store(encode(stored))
    # Processing failure, resource limitation.
    reports = Reports(0x0110, 0x0213)
    listener = listening(LISTENER_PORT, reports)
    try:
        asked = information((CTImageStorage, stored.SOPInstanceUID))
        before = state(process, "LISTENER")["reported"]
        association = requestor("LISTENER")
        assert ask(association, asked) == SUCCESS
        got = reports.wait_for(3)
        assert [report.TransactionUID for _, report, _ in got] == [asked.TransactionUID] * 3
        until(lambda: state(process, "LISTENER")["reported"] == before + 1)
        found = state(process, "LISTENER")
        assert found["waiting"] == 0 and found["given_up"] == 0 and "0213H" in found["last_error"]
    finally:
        listener.shutdown()


@pytest.mark.parametrize("is_killed", [True, False])
def test_a_request_that_was_answered_is_reported_after_the_server_ends(tmp_path, is_killed):
    port = free_port()
    process, origin = launched(tmp_path, "log.filter=warn", f"dimse.peers=*=store+commit,LISTENER@127.0.0.1:{port}=commit")
    listener, reports = None, Reports()
    try:
        stored, goes, unknown = image(), image(), generate_uid()
        origin.store(encode(stored), encode(goes))
        client = AE("LISTENER")
        client.requested_contexts = [build_context(StorageCommitmentPushModel)]
        association = client.associate(*origin.dimse, ae_title=origin.ae_title)
        asked = [information((CTImageStorage, uid)) for uid in (stored.SOPInstanceUID, goes.SOPInstanceUID, unknown)]
        assert [ask(association, each) for each in asked] == [SUCCESS] * 3
        origin.session.close()
        if is_killed:
            process.kill()
        else:
            association.release()
            assert process.stop() == 0
        # The report says what is there when it is sent.
        files = list(process.data.glob(f"originals/*/*/*/{goes.SOPInstanceUID}-*.dcm"))
        for file in files:
            file.unlink()
        process.start()
        assert state(process, "LISTENER")["waiting"] == 3
        listener = listening(port, reports)
        reports.wait_for(3)
        until(lambda: state(process, "LISTENER")["waiting"] == 0)
        types = {report.TransactionUID: event_type for event_type, report, _ in reports.all}
        assert [types[each.TransactionUID] for each in asked] == [1, 2 if files else 1, 2]
        assert len(reports.all) == 3, "each once"
        metrics = requests.get(f"http://127.0.0.1:{process.http_port}/metrics", timeout=30).text
        assert 'cuspid_commitment_reports_total{outcome="taken"} 3' in metrics
    finally:
        if listener:
            listener.shutdown()
        process.kill()
    assert "panicked" not in process.log()


def test_a_peer_without_an_address_gets_earlier_reports_when_it_takes_one(tmp_path):
    process, origin = launched(tmp_path, "log.filter=warn", "dimse.idle_timeout_seconds=1")
    try:
        stored = image()
        origin.store(encode(stored))
        # The first response is a processing failure.
        reports = Reports(0x0110)

        def associated():
            client = AE("MODALITY")
            client.requested_contexts = [build_context(StorageCommitmentPushModel)]
            return client.associate(*origin.dimse, ae_title=origin.ae_title, evt_handlers=[(evt.EVT_N_EVENT_REPORT, reports.take)])

        asked = [information((CTImageStorage, stored.SOPInstanceUID)) for _ in range(2)]
        association = associated()
        assert ask(association, asked[0]) == SUCCESS
        reports.wait_for(1)
        association.release()
        until(lambda: state(process, "MODALITY")["last_error"])
        process.kill()
        process.start()
        # Until then, the report might be under way on its own association.
        time.sleep(2.2)
        association = associated()
        assert ask(association, asked[1]) == SUCCESS
        got = [report.TransactionUID for _, report, _ in reports.wait_for(3)]
        association.release()
        assert got == [asked[0].TransactionUID, asked[1].TransactionUID, asked[0].TransactionUID]
        until(lambda: state(process, "MODALITY")["waiting"] == 0)
        assert state(process, "MODALITY")["reported"] == 2
    finally:
        process.kill()
    assert "panicked" not in process.log()


@pytest.mark.parametrize(
    ("change", "action", "instance", "expected"),
    [
        (lambda asked: None, 2, StorageCommitmentPushModelInstance, 0x0123),
        (lambda asked: None, 1, "1.2.3", 0x0112),
        (lambda asked: asked.pop("TransactionUID"), 1, StorageCommitmentPushModelInstance, 0x0120),
        (lambda asked: asked.pop("ReferencedSOPSequence"), 1, StorageCommitmentPushModelInstance, 0x0120),
        # More than 1 MiB.
        (lambda asked: asked.add_new(0x0040A160, "UT", "x" * 1_200_000), 1, StorageCommitmentPushModelInstance, 0xC000),
    ],
)
def test_a_request_against_the_rules_is_refused(requestor, change, action, instance, expected):
    asked = information((CTImageStorage, generate_uid()))
    change(asked)
    assert ask(requestor("MODALITY"), asked, action, instance) == expected
