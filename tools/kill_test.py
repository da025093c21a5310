#!/usr/bin/env python3
"""Kills the server with SIGKILL at random moments of parallel ingest, and proves that nothing acknowledged is lost.

In each round several clients store small instances by STOW-RS and C-STORE, into studies that they share, until the
server is killed. After its restart every acknowledged instance must be found by QIDO and retrieved with the bytes that
were sent; what was not acknowledged may be there, but then whole; the counts of studies and series must equal what can
be retrieved. Every fifth round, and at the end, `cuspid check` must find nothing. At last a stored file is damaged: then
both the comparison and `check` must notice, or this test could not fail.

The moments depend on a seed, which is printed; `--seed` repeats it.
"""

import argparse
import hashlib
import random
import sys
import tempfile
import threading
import time
from io import BytesIO
from pathlib import Path

import numpy
import requests
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from pynetdicom import AE

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "conformance"))

import multipart  # noqa: E402
from cuspid_server import AE_TITLE, Server  # noqa: E402

UID_ROOT = "1.2.826.0.1.3680043.10.1.88"
STUDIES_PER_ROUND = 2
STOW_CLIENTS = 3
C_STORE_CLIENTS = 2


def build(study: str, series: str, instance: str, side: int, noise: numpy.random.Generator) -> Dataset:
    data_set = Dataset()
    data_set.SOPClassUID, data_set.SOPInstanceUID = CTImageStorage, instance
    data_set.StudyInstanceUID, data_set.SeriesInstanceUID = study, series
    data_set.StudyDate, data_set.PatientID, data_set.PatientName = "20240101", "KILL", "Kill^Test"
    data_set.Modality = "CT"
    data_set.SamplesPerPixel, data_set.PhotometricInterpretation = 1, "MONOCHROME2"
    data_set.Rows = data_set.Columns = side
    data_set.BitsAllocated, data_set.BitsStored, data_set.HighBit, data_set.PixelRepresentation = 16, 12, 11, 0
    data_set.PixelData = noise.integers(0, 4096, side * side, "<u2").tobytes()
    data_set.file_meta = FileMetaDataset()
    data_set.file_meta.MediaStorageSOPClassUID = CTImageStorage
    data_set.file_meta.MediaStorageSOPInstanceUID = instance
    data_set.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return data_set


def encode(data_set: Dataset) -> bytes:
    buffer = BytesIO()
    data_set.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def digest(file: bytes) -> str:
    """Of the data set alone: the server writes the file header of what comes by C-STORE."""
    meta_length = int.from_bytes(file[140:144], "little")
    return hashlib.sha256(file[144 + meta_length :]).hexdigest()


class Ledger:
    """What was sent and what was acknowledged, by SOP Instance UID; shared by the clients of a round."""

    def __init__(self):
        self.lock = threading.Lock()
        self.sent, self.sent_by_c_store, self.acknowledged = {}, set(), set()
        self.first = threading.Event()

    def send(self, instance: str, file: bytes) -> None:
        with self.lock:
            self.sent[instance] = file

    def acknowledge(self, instances: list) -> None:
        with self.lock:
            self.acknowledged.update(instances)
        self.first.set()


class Sender(threading.Thread):
    """One client; it makes instances in studies and series that others use too, until the server is gone."""

    def __init__(self, server: Server, ledger: Ledger, round_number: int, worker: int, seed: int):
        super().__init__(daemon=True)
        self.server, self.ledger = server, ledger
        self.prefix = f"{UID_ROOT}.{round_number}"
        self.worker, self.random = worker, random.Random(f"{seed}-{round_number}-{worker}")
        self.noise = numpy.random.default_rng([seed % 2**32, round_number, worker])
        self.count = 0
        self.failure = None

    def run(self) -> None:
        try:
            self.act()
        except (OSError, requests.RequestException):
            pass  # The server was killed, which is the point.
        except Exception as failure:  # Shown by the main thread.
            self.failure = failure

    def make(self) -> Dataset:
        self.count += 1
        study = f"{self.prefix}.{self.random.randrange(STUDIES_PER_ROUND) + 1}"
        series = f"{study}.{self.random.randrange(2) + 1}"
        instance = f"{series}.{self.worker}.{self.count}"
        data_set = build(study, series, instance, self.random.choice([8, 32, 100]), self.noise)
        self.ledger.send(instance, encode(data_set))
        return data_set


class StowSender(Sender):
    def act(self) -> None:
        with requests.Session() as session:
            while True:
                instances = [self.make().SOPInstanceUID for _ in range(self.random.randint(1, 6))]
                answer = stow(session, self.server, [self.ledger.sent[instance] for instance in instances])
                if answer.status_code != 200:
                    raise RuntimeError(f"STOW answered {answer.status_code}: {answer.text[:300]}")
                self.ledger.acknowledge(instances)


class CStoreSender(Sender):
    def act(self) -> None:
        client = AE("KILLTEST")
        client.add_requested_context(CTImageStorage, ExplicitVRLittleEndian)
        association = client.associate("127.0.0.1", self.server.dimse_port, ae_title=AE_TITLE)
        while association.is_established:
            data_set = self.make()
            self.ledger.sent_by_c_store.add(data_set.SOPInstanceUID)
            try:
                status = association.send_c_store(data_set)
            except RuntimeError:
                return  # The association ended between the test and the sending.
            if "Status" not in status:
                return
            if status.Status != 0:
                raise RuntimeError(f"C-STORE answered {status.Status:#06x}")
            self.ledger.acknowledge([data_set.SOPInstanceUID])


def stow(session: requests.Session, server: Server, files: list) -> requests.Response:
    headers = {"Content-Type": multipart.content_type(), "Accept": "application/dicom+json"}
    return session.post(f"{server.url}/studies", data=multipart.write(files), headers=headers, timeout=30)


def ingest_until_killed(server: Server, round_number: int, seed: int) -> Ledger:
    ledger = Ledger()
    kinds = [StowSender] * STOW_CLIENTS + [CStoreSender] * C_STORE_CLIENTS
    senders = [kind(server, ledger, round_number, worker, seed) for worker, kind in enumerate(kinds, 1)]
    for sender in senders:
        sender.start()
    if not ledger.first.wait(30):
        raise RuntimeError("nothing was acknowledged")
    time.sleep(random.Random(f"{seed}-{round_number}").uniform(0, 0.6))
    server.kill()
    for sender in senders:
        sender.join(30)
        if sender.failure or sender.is_alive():
            raise RuntimeError(f"a client failed: {sender.failure or 'it hangs'}")
    return ledger


def value(result: dict, tag: str):
    return result[tag]["Value"][0]


def retrieve(session: requests.Session, server: Server, study: str) -> dict:
    """The digests of a study's instances by UID; empty if there is no such study."""
    accept = {"Accept": 'multipart/related; type="application/dicom"; transfer-syntax=*'}
    answer = session.get(f"{server.url}/studies/{study}", headers=accept, timeout=60)
    if answer.status_code == 404:
        return {}
    answer.raise_for_status()
    files = [part.body for part in multipart.read(answer)]
    return {str(dcmread(BytesIO(file), specific_tags=["SOPInstanceUID"]).SOPInstanceUID): digest(file) for file in files}


def differences(server: Server, ledger: Ledger, round_number: int) -> list:
    """Everything in which the server differs from what it acknowledged, in words."""
    found = []
    with requests.Session() as session:
        there = {}
        for number in range(1, STUDIES_PER_ROUND + 1):
            study = f"{UID_ROOT}.{round_number}.{number}"
            try:
                retrieved = retrieve(session, server, study)
            except (requests.RequestException, AssertionError) as failure:
                found.append(f"study {study} cannot be retrieved: {failure}")
                continue
            found += count_differences(session, server, study, set(retrieved))
            there.update(retrieved)
    for instance in sorted(ledger.acknowledged - set(there)):
        found.append(f"{instance} was acknowledged and is missing")
    for instance, its_digest in there.items():
        if instance not in ledger.sent or digest(ledger.sent[instance]) != its_digest:
            found.append(f"{instance} is not what was sent")
    return found


def count_differences(session: requests.Session, server: Server, study: str, retrieved: set) -> list:
    """Compares what QIDO lists and counts with what was retrieved."""
    get = lambda path: session.get(f"{server.url}{path}", headers={"Accept": "application/dicom+json"}).json()
    found = []
    listed = {value(result, "00080018") for result in get(f"/studies/{study}/instances?limit=10000")}
    if listed != retrieved:
        found.append(f"study {study}: QIDO and WADO differ in {sorted(listed ^ retrieved)}")
    studies = get(f"/studies?StudyInstanceUID={study}")
    counts = [value(result, "00201208") for result in studies]
    if counts != ([len(retrieved)] if retrieved else []):
        found.append(f"study {study}: counts {counts}, but {len(retrieved)} can be retrieved")
    for series in get(f"/studies/{study}/series?includefield=00201209"):
        uid = value(series, "0020000E")
        count = sum(instance.startswith(f"{uid}.") for instance in retrieved)
        if value(series, "00201209") != count:
            found.append(f"series {uid}: counts {value(series, '00201209')}, but {count} can be retrieved")
    return found


def store_the_rest(server: Server, ledger: Ledger) -> list:
    """Sends again what was not acknowledged, as its client would; it must succeed, stored before or not."""
    rest = set(ledger.sent) - ledger.acknowledged
    by_stow = [ledger.sent[instance] for instance in sorted(rest - ledger.sent_by_c_store)]
    found = []
    if by_stow:
        with requests.Session() as session:
            answer = stow(session, server, by_stow)
        if answer.status_code != 200:
            found.append(f"sending again by STOW was answered with {answer.status_code}: {answer.text[:300]}")
    # Not by STOW: the server wrote another file header, so that these would be other bytes under the same UID.
    client = AE("KILLTEST")
    client.add_requested_context(CTImageStorage, ExplicitVRLittleEndian)
    association = client.associate("127.0.0.1", server.dimse_port, ae_title=AE_TITLE)
    for instance in sorted(rest & ledger.sent_by_c_store):
        status = association.send_c_store(dcmread(BytesIO(ledger.sent[instance]))).get("Status")
        if status != 0:
            found.append(f"sending {instance} again by C-STORE was answered with {status}")
    association.release()
    ledger.acknowledge(ledger.sent)
    return found


def check_is_clean(server: Server) -> list:
    """Stops the server, checks its data, starts it again."""
    server.stop()
    done = server.check()
    server.start()
    return [] if done.returncode == 0 else [f"check: {done.stdout[-1000:]}{done.stderr[-1000:]}"]


def damage_is_noticed(server: Server, ledger: Ledger, round_number: int) -> list:
    """Changes one byte of a stored object of the round; the comparison and `check` must both notice."""
    prefix = f"{UID_ROOT}.{round_number}."
    victims = sorted(path for path in server.data.rglob("*") if path.is_file() and f"/{prefix}" in str(path))
    if not victims:
        return ["no stored object to damage"]
    server.stop()
    content = bytearray(victims[0].read_bytes())
    content[-2] ^= 1
    victims[0].write_bytes(content)
    missed = [] if server.check().returncode != 0 else ["check did not notice a damaged object"]
    server.start()
    return missed + ([] if differences(server, ledger, round_number) else ["the comparison did not notice it"])


def run(server: Server, rounds: int, seed: int) -> list:
    server.start()
    total, ledgers = 0, {}
    for number in range(1, rounds + 1):
        ledger = ledgers[number] = ingest_until_killed(server, number, seed)
        acknowledged = len(ledger.acknowledged)
        server.start()
        found = differences(server, ledger, number)
        if number % 5 == 0 or number == rounds:
            # Before the rest is sent again, which would adopt what the kill left behind.
            found += check_is_clean(server)
        found += store_the_rest(server, ledger)
        total += acknowledged
        print(f"round {number}: {acknowledged} acknowledged of {len(ledger.sent)} sent, {len(found)} faults", flush=True)
        if found:
            return found
    for number, ledger in ledgers.items():
        found = differences(server, ledger, number)
        if found:
            return [f"at the end, in round {number}:", *found]
    print(f"{total} instances acknowledged before {rounds} kills: all there, byte for byte", flush=True)
    return damage_is_noticed(server, ledgers[rounds], rounds)


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rounds", type=int, default=50)
    arguments.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    chosen = arguments.parse_args()
    print(f"seed {chosen.seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="cuspid-kill-") as directory:
        server = Server(Path(directory), "preview.enabled=false", "log.filter=warn")
        try:
            found = run(server, chosen.rounds, chosen.seed)
        finally:
            if server.process:
                server.kill()
    for line in found:
        print(line)
    print("kill test: " + ("FAILED" if found else f"passed, {chosen.rounds} rounds"))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
