"""Storage as an SCU (PS3.4 Annex B): instances are forwarded by rule, here to archives of pynetdicom."""

import time
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO

import pytest
import requests
from pydicom import dcmread
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, MRImageStorage, generate_uid
from pynetdicom import AE, evt

import cuspid_server
from build import encode, image, series_path
from conftest import Origin, launched
from cuspid_server import free_port

SUCCESS, OUT_OF_RESOURCES, WRONG_CLASS, NO_MATCH = 0x0000, 0xA700, 0x0122, 0xA900


class Archive:
    """A destination, which is away at first. `answers` are the statuses for an instance, one after the other."""

    def __init__(self, title: str, port: int | None = None):
        self.title, self.port = title, port or free_port()
        self.got, self.priorities, self.associations, self.answers = [], set(), 0, {}
        self.entity, self.listener = AE(title), None
        for sop_class in (CTImageStorage, MRImageStorage):
            self.entity.add_supported_context(sop_class, ExplicitVRLittleEndian)

    @property
    def peer(self) -> str:
        return f"{self.title}@127.0.0.1:{self.port}=store"

    def begin(self):
        handlers = [(evt.EVT_C_STORE, self.take), (evt.EVT_ACCEPTED, self.accepted)]
        self.listener = self.entity.start_server(("127.0.0.1", self.port), block=False, evt_handlers=handlers)
        return self

    def end(self):
        if self.listener:
            self.listener.shutdown()
            self.listener = None

    def accepted(self, event):
        self.associations += 1

    def take(self, event):
        uid = str(event.request.AffectedSOPInstanceUID)
        assert event.dataset.SOPInstanceUID == uid
        self.priorities.add(event.request.Priority)
        self.got.append(uid)
        answers = self.answers.get(uid, [])
        return answers.pop(0) if answers else SUCCESS

    def wait_for(self, *uids: str, seconds: float = 60):
        until(lambda: set(uids) <= set(self.got), seconds)


def until(is_true, seconds: float = 60):
    deadline = time.monotonic() + seconds
    while not is_true():
        assert time.monotonic() < deadline, "this did not happen in time"
        time.sleep(0.05)


def settings(archives: list, *rules: str) -> tuple:
    peers = ",".join(["*=store+find+move", *(archive.peer for archive in archives)])
    return "log.filter=info", f"dimse.peers={peers}", f"forward.rules={','.join(rules)}"


@pytest.fixture
def forwarding(tmp_path):
    """Starts a server that forwards to archives, which end after the test."""
    started = []

    def forwarding(archives: list, *rules: str):
        server, origin = launched(tmp_path, *settings(archives, *rules))
        started.append((server, origin, archives))
        return server, origin

    yield forwarding
    for server, origin, archives in started:
        origin.session.close()
        for archive in archives:
            archive.end()
        server.kill()
        assert "panicked" not in server.log()


def send(origin: Origin, title: str, *data_sets):
    client = AE(title)
    for sop_class in (CTImageStorage, MRImageStorage):
        client.add_requested_context(sop_class, ExplicitVRLittleEndian)
    association = client.associate(*origin.dimse, ae_title=origin.ae_title)
    assert association.is_established
    for data_set in data_sets:
        assert association.send_c_store(dcmread(BytesIO(encode(data_set)))).Status == SUCCESS
    association.release()


def state(server, title: str) -> dict:
    answer = requests.get(f"http://127.0.0.1:{server.http_port}/status", timeout=30).json()
    (found,) = [each for each in answer["forwarding"] if each["destination"] == title]
    return found


def metrics(server) -> str:
    return requests.get(f"http://127.0.0.1:{server.http_port}/metrics", timeout=30).text


def uids(data_sets) -> set:
    return {data_set.SOPInstanceUID for data_set in data_sets}


def test_what_matches_a_rule_is_sent_and_nothing_else(forwarding):
    one, other = Archive("ONE").begin(), Archive("OTHER").begin()
    rules = ["modality=CT description=*implant* priority=high -> ONE", "calling=PAX 1 -> OTHER", "modality=MR -> OTHER"]
    server, origin = forwarding([one, other], *rules)
    implant = [image(Modality="CT", StudyDescription="Knee IMPLANT left") for _ in range(3)]
    plain = image(Modality="CT", StudyDescription="Knee")
    of_mr = image(Modality="MR", SOPClassUID=MRImageStorage, StudyDescription="Implant")
    origin.store(*(encode(each) for each in [*implant, plain, of_mr]))
    of_pax, returned = image(Modality="CT", StudyDescription=""), image(Modality="MR")
    send(origin, "PAX 1", of_pax)
    send(origin, "OTHER", returned)
    last = image(Modality="MR", StudyDescription="an implant")
    origin.store(encode(last))
    one.wait_for(*uids(implant))
    other.wait_for(of_mr.SOPInstanceUID, of_pax.SOPInstanceUID, last.SOPInstanceUID)
    time.sleep(3)
    assert sorted(one.got) == sorted(uids(implant)), "each once"
    assert sorted(other.got) == sorted(uids([of_mr, of_pax, last])), "and not to its sender"
    assert one.priorities == {1} and other.priorities == {0}
    assert one.associations <= 2, "the instances of a request share an association"
    until(lambda: state(server, "ONE")["waiting"] == 0)
    found = state(server, "ONE")
    assert (found["sent"], found["failed"], found["waiting"], found["last_error"]) == (3, 0, 0, None)
    assert 'cuspid_forwarded_total{tenant="default",destination="ONE",outcome="sent"} 3' in metrics(server)


def test_duplicates_are_not_sent_again_and_deleted_instances_are_not_sent(forwarding):
    one = Archive("ONE")
    server, origin = forwarding([one], "-> ONE")
    stays, goes = image(), image()
    origin.store(encode(stays), encode(goes))
    until(lambda: state(server, "ONE")["last_error"])
    origin.store(encode(stays))
    assert origin.request("DELETE", series_path(goes)).status_code in (200, 204)
    one.begin()
    one.wait_for(stays.SOPInstanceUID)
    until(lambda: state(server, "ONE")["waiting"] == 0)
    assert one.got == [stays.SOPInstanceUID]
    assert state(server, "ONE")["failed"] == 0


def test_a_destination_that_is_away_loses_nothing_and_holds_up_no_other(forwarding):
    away, there = Archive("AWAY"), Archive("THERE").begin()
    server, origin = forwarding([away, there], "-> AWAY", "-> THERE")
    first = [image() for _ in range(150)]
    for part in range(0, 150, 50):
        origin.store(*(encode(each) for each in first[part : part + 50]))
    there.wait_for(*uids(first))
    assert away.got == []
    until(lambda: state(server, "AWAY")["last_error"])
    found = state(server, "AWAY")
    assert "no connection" in found["last_error"] and found["waiting"] > 0 and found["sent"] == 0
    assert "AWAY" in server.log() and "cannot forward" in server.log()
    server.kill()
    server.start()
    second = image()
    origin.store(encode(second))
    away.begin()
    away.wait_for(*uids(first), second.SOPInstanceUID, seconds=120)
    until(lambda: state(server, "AWAY")["waiting"] == 0)
    assert state(server, "AWAY")["failed"] == 0


def test_what_a_destination_refuses_is_tried_again_or_listed(forwarding):
    one = Archive("ONE").begin()
    server, origin = forwarding([one], "modality=CT -> ONE")
    sent = [image() for _ in range(8)]
    full, away_class, wrong, *others = [each.SOPInstanceUID for each in sent]
    one.answers = {full: [OUT_OF_RESOURCES, 0x0110], away_class: [WRONG_CLASS], wrong: [NO_MATCH]}
    origin.store(*(encode(each) for each in sent))
    one.wait_for(*others)
    until(lambda: one.got.count(full) == 3)
    until(lambda: state(server, "ONE")["waiting"] == 0)
    found = state(server, "ONE")
    assert (found["sent"], found["failed"]) == (6, 2)
    failures = {each["instance"]: each["error"] for each in found["failures"]}
    assert failures.keys() == {away_class, wrong}
    assert "0122H" in failures[away_class] and "A900H" in failures[wrong]
    assert one.got.count(away_class) == one.got.count(wrong) == 1, "they are not tried again"
    assert all(one.got.count(each) == 1 for each in others)
    no_form = image(SOPClassUID="1.2.840.10008.5.1.4.1.1.7", Modality="CT")
    origin.store(encode(no_form))
    until(lambda: state(server, "ONE")["failed"] == 3)
    assert "takes no form" in state(server, "ONE")["failures"][0]["error"]


def test_an_instance_at_which_the_destination_breaks_off_holds_up_no_other(forwarding):
    class Breaking(Archive):
        def take(self, event):
            if str(event.request.AffectedSOPInstanceUID) == self.poison:
                event.assoc.abort()
            return super().take(event)

    one = Breaking("ONE").begin()
    sent = [image() for _ in range(6)]
    one.poison = sent[2].SOPInstanceUID
    server, origin = forwarding([one], "-> ONE")
    origin.store(*(encode(each) for each in sent))
    one.wait_for(*uids(sent))
    until(lambda: state(server, "ONE")["sent"] == 5 and state(server, "ONE")["waiting"] == 1)
    one.poison = None
    until(lambda: state(server, "ONE")["waiting"] == 0)
    assert state(server, "ONE")["sent"] == 6


def test_kills_lose_nothing(forwarding):
    one = Archive("ONE").begin()
    server, origin = forwarding([one], "-> ONE")
    stored = []
    for _ in range(6):
        more = [image() for _ in range(20)]
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda each: origin.store(encode(each)), more))
        stored += more
        time.sleep(0.4)
        server.kill()
        server.start()
    one.wait_for(*uids(stored), seconds=120)


def test_a_rule_that_cannot_be_used_is_named_at_the_start(tmp_path):
    for rules, reason in [
        ("modality=CT -> NOBODY", "NOBODY"),
        ("modalities=CT -> ONE", "modalities"),
        ("description=*a ->", "description=*a ->"),
    ]:
        server = cuspid_server.Server(tmp_path, *settings([Archive("ONE")], rules))
        done = server.command("check")
        assert done.returncode != 0 and "forward.rules" in done.stderr and reason in done.stderr, done.stderr


def test_the_audit_log_names_the_destination(forwarding):
    one = Archive("ONE").begin()
    server, origin = forwarding([one], "-> ONE")
    study = generate_uid()
    sent = [image(StudyInstanceUID=study) for _ in range(2)]
    origin.store(*(encode(each) for each in sent))
    one.wait_for(*uids(sent))
    until(lambda: state(server, "ONE")["sent"] == 2)
    answer = requests.get(f"http://127.0.0.1:{server.http_port}/audit", timeout=30).text
    assert '"ONE"' in answer and "forward.rules" in answer and study in answer
