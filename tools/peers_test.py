#!/usr/bin/env python3
"""Kills the server with SIGKILL while it forwards instances and reports storage commitment to peers whose lines break.

In each round clients store CT and MR images by STOW-RS, and one sends CT images by C-STORE under the AE title of the destination;
another asks for the commitment of what was acknowledged, and of what was never sent. The server forwards CT images by a rule. The
peers, of pynetdicom, break off associations and refuse for now at random moments, and the destination is away in some rounds, in
which some instances are deleted before anything is sent. The server is killed at a random moment, in some rounds also before it is
ready again.

Afterwards, each acknowledged CT image must come to the destination with the data set that was sent, unless it was deleted, and
nothing else: no MR image, no acknowledged image of the destination's own, none that was deleted before. Each request for commitment that was answered
with success must be reported: committed what was acknowledged, failed what was never sent. What is committed must be there at the
end. Instances and reports may come twice.

The moments depend on a seed, which is printed; `--seed` repeats it as far as clocks allow.
"""

import argparse
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy
import requests
from instances import UID_ROOT, Ledger, build, count, data_set_of, encode, play_rounds, retrieve, stow
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, MRImageStorage, generate_uid
from pynetdicom import AE, evt
from pynetdicom.presentation import build_context
from pynetdicom.sop_class import StorageCommitmentPushModel, StorageCommitmentPushModelInstance

sys.path.insert(0, str(Path(__file__).parent.parent / "conformance"))

from cuspid_server import AE_TITLE, Server, free_port  # noqa: E402

SUCCESS, PROCESSING_FAILURE = 0x0000, 0x0110
# Every so many rounds; some rounds have both.
AWAY_EVERY, KILL_STARTS_EVERY = 3, 4
# How often a peer breaks off, or refuses for now.
BREAKS, REFUSES = 0.03, 0.05
# After a failure the server waits some seconds, longer after each one.
ALL_HAVE_COME_SECONDS = 180


class Peers:
    """The destination of forwarding, and the device that gets reports. They go on when the server is killed."""

    def __init__(self, seed: int):
        self.lock, self.random = threading.Lock(), random.Random(f"{seed}-peers")
        self.is_faulty = True
        # The data sets that came, by SOP Instance UID, and the reports, by Transaction UID.
        self.got, self.counts, self.reports = {}, Counter(), {}
        self.archive_port, self.device_port = free_port(), free_port()
        self.archive = self.device = None

    @property
    def setting(self) -> str:
        return f"dimse.peers=*=store+commit,ARCHIVE@127.0.0.1:{self.archive_port}=store,DEVICE@127.0.0.1:{self.device_port}=commit"

    def begin_device(self) -> None:
        device = AE("DEVICE")
        device.add_supported_context(StorageCommitmentPushModel, scu_role=False, scp_role=True)
        handlers = [(evt.EVT_N_EVENT_REPORT, self.take_report)]
        self.device = device.start_server(("127.0.0.1", self.device_port), block=False, evt_handlers=handlers)

    def begin_archive(self) -> None:
        archive = AE("ARCHIVE")
        for sop_class in (CTImageStorage, MRImageStorage):
            archive.add_supported_context(sop_class, ExplicitVRLittleEndian)
        handlers = [(evt.EVT_C_STORE, self.take_instance)]
        self.archive = archive.start_server(("127.0.0.1", self.archive_port), block=False, evt_handlers=handlers)

    def end_archive(self) -> None:
        if self.archive:
            # With its associations.
            self.archive.ae.shutdown()
            self.archive = None

    def has_fault(self, event) -> bool:
        """Whether to refuse for now; breaks off sometimes."""
        with self.lock:
            chosen = self.random.random() if self.is_faulty else 1
        if chosen < BREAKS:
            event.assoc.abort()
        return chosen < BREAKS + REFUSES

    def take_instance(self, event) -> int:
        uid = str(event.request.AffectedSOPInstanceUID)
        data_set = event.request.DataSet.getvalue()
        if self.has_fault(event):
            return PROCESSING_FAILURE
        with self.lock:
            self.counts[uid] += 1
            self.got.setdefault(uid, set()).add(data_set)
        return SUCCESS

    def take_report(self, event) -> tuple[int, None]:
        report = event.event_information
        if self.has_fault(event):
            return PROCESSING_FAILURE, None
        uids = lambda name: {str(item.ReferencedSOPInstanceUID) for item in report.get(name, [])}
        found = (uids("ReferencedSOPSequence"), uids("FailedSOPSequence"))
        with self.lock:
            self.reports.setdefault(str(report.TransactionUID), []).append(found)
        return SUCCESS, None


class Round:
    """The clients of a round, and what they know."""

    def __init__(self, server: Server, number: int, seed: int):
        self.server, self.number, self.ledger = server, number, Ledger()
        self.random = random.Random(f"{seed}-{number}")
        self.noise = numpy.random.default_rng([seed % 2**32, number])
        self.lock, self.count = threading.Lock(), 0
        # By SOP Instance UID; by Transaction UID, what was asked for.
        self.mr, self.of_archive, self.asked = set(), set(), {}
        self.failures = []

    def make(self, kind: str) -> tuple[str, bytes, Dataset]:
        with self.lock:
            self.count += 1
            series = f"{UID_ROOT}.{self.number}.{self.random.randrange(2) + 1}.1"
            instance = f"{series}.{self.count}"
            data_set = build(series.rsplit(".", 1)[0], series, instance, 32, self.noise)
            if kind == "MR":
                data_set.SOPClassUID = data_set.file_meta.MediaStorageSOPClassUID = MRImageStorage
                data_set.SeriesInstanceUID, data_set.Modality = f"{series.rsplit('.', 1)[0]}.2", "MR"
                self.mr.add(instance)
            elif kind == "ARCHIVE":
                self.of_archive.add(instance)
        return instance, encode(data_set), data_set

    def store(self) -> None:
        with requests.Session() as session:
            while True:
                made = [self.make(kind) for kind in ("CT", "CT", "MR", "CT")]
                sends = {instance: self.ledger.send(instance, file) for instance, file, _ in made}
                answer = stow(session, self.server, [file for _, file, _ in made])
                if answer.status_code != 200:
                    raise RuntimeError(f"STOW answered {answer.status_code}: {answer.text[:300]}")
                self.ledger.acknowledge(sends)

    def associated(self, title: str, context):
        client = AE(title)
        client.acse_timeout = client.dimse_timeout = client.network_timeout = 10
        client.requested_contexts = [context]
        association = client.associate("127.0.0.1", self.server.dimse_port, ae_title=AE_TITLE)
        if not association.is_established:
            raise OSError("no association")
        return association

    def send_back(self) -> None:
        """Sends by C-STORE under the title of the destination."""
        association = self.associated("ARCHIVE", build_context(CTImageStorage, ExplicitVRLittleEndian))
        while association.is_established:
            instance, file, data_set = self.make("ARCHIVE")
            send = self.ledger.send(instance, file)
            status = association.send_c_store(data_set)
            if "Status" not in status:
                raise OSError("the association ended")
            if status.Status != SUCCESS:
                raise RuntimeError(f"C-STORE answered {status.Status:#06x}")
            self.ledger.acknowledge({instance: send})
            time.sleep(0.05)

    def ask(self) -> None:
        """Asks for the commitment of what was acknowledged and of an instance that was never sent."""
        association = self.associated("DEVICE", build_context(StorageCommitmentPushModel))
        while association.is_established:
            stored = self.ledger.stored()
            if not stored:
                time.sleep(0.01)
                continue
            asked = Dataset()
            asked.TransactionUID = generate_uid()
            chosen, unknown = set(stored[-3:]), generate_uid()
            asked.ReferencedSOPSequence = []
            for uid in [*sorted(chosen), unknown]:
                item = Dataset()
                item.ReferencedSOPClassUID = MRImageStorage if uid in self.mr else CTImageStorage
                item.ReferencedSOPInstanceUID = uid
                asked.ReferencedSOPSequence.append(item)
            status, _ = association.send_n_action(asked, 1, StorageCommitmentPushModel, StorageCommitmentPushModelInstance)
            if "Status" not in status:
                raise OSError("the association ended")
            if status.Status != SUCCESS:
                raise RuntimeError(f"N-ACTION answered {status.Status:#06x}")
            self.asked[str(asked.TransactionUID)] = (chosen, {str(unknown)})
            time.sleep(0.02)

    def act(self, work) -> None:
        try:
            work()
        except (OSError, requests.RequestException, RuntimeError) as failure:
            # A line cut by the kill is expected, and pynetdicom tells of one by a RuntimeError, too.
            if not self.ledger.killed.is_set():
                self.failures.append(repr(failure))

    def until_killed(self) -> None:
        clients = [threading.Thread(target=self.act, args=(work,), daemon=True) for work in (self.store, self.store, self.send_back, self.ask)]
        for client in clients:
            client.start()
        if not self.ledger.first.wait(30):
            raise RuntimeError("nothing was acknowledged")
        time.sleep(self.random.uniform(0, 2))
        self.ledger.killed.set()
        self.server.kill()
        for client in clients:
            client.join(15)
        if self.failures:
            raise RuntimeError(f"a client failed: {self.failures}")

    def delete_some(self) -> set:
        """Deletes some acknowledged CT images while the destination is away. Returns those that are gone."""
        gone = set()
        with requests.Session() as session:
            mine = [uid for uid in self.ledger.stored() if uid not in self.mr | self.of_archive]
            for instance in self.random.sample(mine, min(3, len(mine))):
                series, study = instance.rsplit(".", 1)[0], instance.rsplit(".", 2)[0]
                path = f"/studies/{study}/series/{series}/instances/{instance}"
                answer = session.delete(f"{self.server.url}{path}", timeout=30)
                if answer.status_code != 204:
                    raise RuntimeError(f"DELETE answered {answer.status_code}")
                gone.add(instance)
        return gone

    def expected(self) -> set:
        """The instances that must come to the destination."""
        return set(self.ledger.stored()) - self.mr - self.of_archive


def play(server: Server, peers: Peers, number: int, seed: int) -> tuple[tuple[Round, set], list]:
    played = Round(server, number, seed)
    is_away = number % AWAY_EVERY == 0
    if is_away:
        peers.end_archive()
    elif not peers.archive:
        peers.begin_archive()
    played.until_killed()
    if number % KILL_STARTS_EVERY == 0:
        for _ in range(3):
            server.launch()
            time.sleep(played.random.uniform(0, 0.1))
            server.kill()
    server.start()
    deleted = set()
    if is_away:
        deleted = played.delete_some()
        peers.begin_archive()
    expected = played.expected() - deleted
    deadline = time.monotonic() + ALL_HAVE_COME_SECONDS
    while time.monotonic() < deadline and not (expected <= peers.got.keys() and played.asked.keys() <= peers.reports.keys()):
        time.sleep(0.1)
    found = faults(peers, played, expected, deleted)
    print(
        f"round {number}: {len(expected)} to forward, {sum(peers.counts[uid] > 1 for uid in expected)} of them came twice, "
        f"{len(played.asked)} to report, {sum(len(peers.reports.get(each, [])) > 1 for each in played.asked)} of them twice, "
        f"{len(deleted)} deleted{', away' if is_away else ''}, {len(found)} faults",
        flush=True,
    )
    return (played, deleted), found


def faults(peers: Peers, played: Round, expected: set, deleted: set) -> list:
    """Texts that name what differs from what must have come."""
    with peers.lock:
        got, reports = dict(peers.got), dict(peers.reports)
    sent = played.ledger.sent
    found = [f"{uid} was acknowledged and did not come" for uid in sorted(expected - got.keys())]
    found += [f"{uid} is an MR image and came" for uid in sorted(played.mr & got.keys())]
    # Of an instance that was not acknowledged before the kill, the server does not know the sender (decision 0154).
    returned = played.of_archive & set(played.ledger.stored()) & got.keys()
    found += [f"{uid} was sent by the destination and came back" for uid in sorted(returned)]
    found += [f"{uid} was deleted and came" for uid in sorted(deleted & got.keys())]
    found += [f"{uid} is not what was sent" for uid in sorted(expected & got.keys()) if got[uid] != {data_set_of(sent[uid])}]
    for transaction, (chosen, unknown) in played.asked.items():
        if transaction not in reports:
            found.append(f"transaction {transaction} was accepted and not reported")
        for committed, failed in reports.get(transaction, []):
            # What was deleted after the request may be reported either way.
            if committed - deleted != chosen - deleted or failed - deleted != unknown:
                found.append(f"transaction {transaction}: committed {committed}, failed {failed}, but {chosen} were acknowledged")
    return found


def is_there(server: Server, peers: Peers, rounds: dict) -> list:
    """Compares what was committed with what can be retrieved at the end."""
    found = []
    with requests.Session() as session:
        for number, (played, deleted) in rounds.items():
            there = {uid for study in (1, 2) for uid in retrieve(session, server, f"{UID_ROOT}.{number}.{study}")}
            committed = {uid for each in played.asked for report in peers.reports.get(each, []) for uid in report[0]}
            found += [f"{uid} was committed and is lost" for uid in sorted(committed - there - deleted)]
    return found


def nothing_waits(server: Server) -> list:
    deadline = time.monotonic() + 60
    while True:
        status = requests.get(f"http://127.0.0.1:{server.http_port}/status", timeout=30).json()
        waiting = [each for each in status["forwarding"] + status["commitments"] if each["waiting"]]
        if not waiting or time.monotonic() > deadline:
            lost = [each for each in status["forwarding"] if each["failed"]] + [each for each in status["commitments"] if each["given_up"]]
            return [f"waits at the end: {each}" for each in waiting] + [f"was given up: {each}" for each in lost]
        time.sleep(0.2)


def run(server: Server, peers: Peers, rounds: int, seed: int) -> Iterator[tuple[str, list]]:
    """The claims in turn, each with the faults found. Ends after the first round with a fault."""
    peers.begin_device()
    server.start()
    played = yield from play_rounds(lambda number: play(server, peers, number, seed), rounds)
    if played is None:
        return
    peers.is_faulty = False
    yield "nothing waits at the end, and nothing was given up", nothing_waits(server)
    late = [fault for each, deleted in played.values() for fault in faults(peers, each, each.expected() - deleted, deleted)]
    yield "nothing came later that must not come", late
    yield "what is committed is there", is_there(server, peers, played)
    total = len({uid for each, deleted in played.values() for uid in each.expected() - deleted})
    print(f"{total} forwarded, {sum(count > 1 for count in peers.counts.values())} more than once; {len(peers.reports)} reported")
    yield "something was forwarded and reported", [] if total and peers.reports else ["nothing was"]


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rounds", type=int, default=50)
    arguments.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    chosen = arguments.parse_args()
    print(f"seed {chosen.seed}", flush=True)
    peers = Peers(chosen.seed)
    with tempfile.TemporaryDirectory(prefix="cuspid-peers-") as directory:
        rule = "forward.rules=modality=CT -> ARCHIVE"
        server = Server(Path(directory), "preview.enabled=false", "log.filter=warn", peers.setting, rule)
        try:
            passed, failed = count(run(server, peers, chosen.rounds, chosen.seed))
        finally:
            if server.process:
                server.kill()
            peers.end_archive()
            peers.device.shutdown()
        if "panicked" in server.log():
            print(f"FAILED nothing panics: {server.log()[-2000:]}")
            failed += 1
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
