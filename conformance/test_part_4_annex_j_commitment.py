"""Storage Commitment Push Model as an SCP (PS3.4 Annex J), by pynetdicom."""

import threading

import pytest
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
    """The reports that a peer gets."""

    def __init__(self):
        self.all, self.has_come = [], threading.Event()

    def take(self, event):
        self.all.append((event.request.EventTypeID, event.event_information, event.assoc))
        self.has_come.set()
        return SUCCESS, None

    def only(self) -> tuple:
        assert self.has_come.wait(20)
        (report,) = self.all
        return report


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
    listener = AE("LISTENER")
    listener.add_supported_context(StorageCommitmentPushModel, scu_role=False, scp_role=True)
    # The listener starts late: the server tries again.
    server = listener.start_server(("127.0.0.1", LISTENER_PORT), block=False, evt_handlers=[(evt.EVT_N_EVENT_REPORT, reports.take)])
    try:
        event_type, report, _ = reports.only()
        assert event_type == 1 and report.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == stored.SOPInstanceUID
    finally:
        server.shutdown()


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
