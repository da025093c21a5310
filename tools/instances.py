"""Instances to send to a server, a ledger of the server's answers, and comparisons of the two at the end; for tests that kill.

An instance's UID starts with that of its series, and that with its study's.
"""

import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator
from io import BytesIO
from pathlib import Path
from random import Random

import numpy
import requests
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

sys.path.insert(0, str(Path(__file__).parent.parent / "conformance"))

import multipart  # noqa: E402
from cuspid_server import Server  # noqa: E402

UID_ROOT = "1.2.826.0.1.3680043.10.1.88"


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


def data_set_of(file: bytes) -> bytes:
    """The file without its header: the server writes a header of its own for instances received by C-STORE."""
    meta_length = int.from_bytes(file[140:144], "little")
    return file[144 + meta_length :]


class Deletion:
    """A request to delete a study, a series or an instance, and when it was on its way."""

    def __init__(self, uid: str):
        self.uid, self.began = uid, time.monotonic()
        self.ended, self.is_acknowledged = float("inf"), False

    def covers(self, instance: str) -> bool:
        return instance == self.uid or instance.startswith(f"{self.uid}.")


class Send:
    """A request to store an instance, and when it was on its way."""

    def __init__(self):
        self.began, self.ended = time.monotonic(), float("inf")
        self.is_acknowledged = False


class Ledger:
    """A ledger of requests to store and delete, and of their acknowledgements, by SOP Instance UID; shared by clients.

    A request without an acknowledgement may have been carried out, and may still be, until its end is set.
    """

    def __init__(self):
        self.lock = threading.Lock()
        # The file of each instance, which never changes, and all requests.
        self.sent, self.sends, self.deletions = {}, {}, []
        self.sent_by_c_store, self.acknowledged = set(), set()
        self.first, self.killed = threading.Event(), threading.Event()

    def send(self, instance: str, file: bytes) -> Send:
        send = Send()
        with self.lock:
            self.sent[instance] = file
            self.sends.setdefault(instance, []).append(send)
        return send

    def acknowledge(self, sends: dict) -> None:
        """`sends` by instance."""
        with self.lock:
            for instance, send in sends.items():
                send.ended, send.is_acknowledged = time.monotonic(), True
                self.acknowledged.add(instance)
        self.first.set()

    def begin_deletion(self, uid: str) -> Deletion:
        deletion = Deletion(uid)
        with self.lock:
            self.deletions.append(deletion)
        return deletion

    def stored(self) -> list:
        """The instances acknowledged until now."""
        with self.lock:
            return sorted(self.acknowledged)

    def must_be_gone(self) -> set:
        """The instances that were deleted after all their requests to store had been acknowledged."""
        done = [deletion for deletion in self.deletions if deletion.is_acknowledged]
        before = lambda instance, deletion: all(send.ended < deletion.began for send in self.sends[instance])
        return {i for i in self.sent for deletion in done if deletion.covers(i) and before(i, deletion)}

    def must_be_there(self) -> set:
        """The instances that were acknowledged and sent after the end of every deletion that covers them."""
        return {instance for instance in self.stored() if self.is_to_be_there(instance)}

    def is_to_be_there(self, instance: str) -> bool:
        with self.lock:
            ends = [deletion.ended for deletion in self.deletions if deletion.covers(instance)]
            begins = [send.began for send in self.sends.get(instance, []) if send.is_acknowledged]
        return bool(begins) and all(end < max(begins) for end in ends)

    def is_sent(self, instance: str, file: bytes) -> bool:
        """Whether these are the bytes that were sent as the instance."""
        if instance not in self.sent:
            return False
        if instance in self.sent_by_c_store:
            return data_set_of(self.sent[instance]) == data_set_of(file)
        return self.sent[instance] == file


def stow(session: requests.Session, server: Server, files: list, seconds: float = 30) -> requests.Response:
    headers = {"Content-Type": multipart.content_type(), "Accept": "application/dicom+json"}
    return session.post(f"{server.url}/studies", data=multipart.write(files), headers=headers, timeout=seconds)


def value(result: dict, tag: str):
    return result[tag]["Value"][0]


def retrieve(session: requests.Session, server: Server, study: str) -> dict:
    """The files of a study's instances by UID; empty if there is no such study."""
    accept = {"Accept": 'multipart/related; type="application/dicom"; transfer-syntax=*'}
    answer = session.get(f"{server.url}/studies/{study}", headers=accept, timeout=60)
    if answer.status_code == 404:
        return {}
    answer.raise_for_status()
    files = [part.body for part in multipart.read(answer)]
    uids = [str(dcmread(BytesIO(file), specific_tags=["SOPInstanceUID"]).SOPInstanceUID) for file in files]
    assert len(set(uids)) == len(uids), "an instance is there twice"
    return dict(zip(uids, files))


def count_differences(session: requests.Session, server: Server, study: str, retrieved: set) -> list:
    """Compares the lists and counts of QIDO-RS with the retrieved instances."""
    get = lambda path: session.get(f"{server.url}{path}", headers={"Accept": "application/dicom+json"}).json()
    found = []
    listed = [value(result, "00080018") for result in get(f"/studies/{study}/instances?limit=10000")]
    if sorted(listed) != sorted(retrieved):
        found.append(f"study {study}: QIDO lists {len(listed)}, but differs in {sorted(set(listed) ^ retrieved)}")
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


def deletion_of(random: Random, instance: str, weights: list) -> tuple[str, str]:
    """Chooses by weights whether to delete an instance, its series or its study. Returns the UID and the path.

    Only the first study of a round is ever deleted as a whole.
    """
    series, study = instance.rsplit(".", 2)[0], instance.rsplit(".", 3)[0]
    level = random.choices(["instance", "series", "study"], weights)[0]
    if level == "study" and not study.endswith(".1"):
        level = "series"
    return {
        "instance": (instance, f"/studies/{study}/series/{series}/instances/{instance}"),
        "series": (series, f"/studies/{study}/series/{series}"),
        "study": (study, f"/studies/{study}"),
    }[level]


def play_rounds(play: Callable, rounds: int) -> Generator[tuple[str, list], None, dict | None]:
    """Runs rounds by `play`, which returns a ledger and faults. Returns the ledgers by round,
    or `None` after the first round with any fault."""
    ledgers = {}
    for number in range(1, rounds + 1):
        try:
            ledgers[number], found = play(number)
        except (RuntimeError, requests.RequestException) as failure:
            found = [repr(failure)]
        yield f"round {number} loses nothing", found
        if found:
            return None
    return ledgers


def count(claims: Iterator[tuple[str, list]]) -> tuple[int, int]:
    """Prints the faults of claims. Returns how many claims held, and how many did not."""
    passed, failed = 0, 0
    for claim, found in claims:
        passed, failed = passed + (not found), failed + bool(found)
        for fault in found:
            print(f"FAILED {claim}: {fault}", flush=True)
    return passed, failed
