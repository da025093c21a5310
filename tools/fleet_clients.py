"""Clients of a fleet: modalities, which send instances to any node until they are acknowledged, deleters, and readers.

A node may answer with an error or be killed at any time. A fault is an error that stays for a valid request, or a wrong answer.
"""

import random
import re
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy
import requests
from instances import UID_ROOT, Ledger, build, deletion_of, encode, stow, value

sys.path.insert(0, str(Path(__file__).parent.parent / "conformance"))

from cuspid_server import AE_TITLE, Server  # noqa: E402

STUDIES, SERIES = 2, 2
# Rows and columns: mostly some kilobytes; rarely so large that the object is staged in a file and sent to S3 in parts.
SIDES, LARGE_SIDE = [8, 32, 100], 1700
# Failure reasons of a STOW-RS answer after which a client may send again.
FAILED = (0x0110, 0xA700)
PAUSE_SECONDS = 0.1
# Longer than the retries of a server, so that an operation has ended before the client gives up.
HTTP_SECONDS, C_STORE_SECONDS = 60, 60


class Client(threading.Thread):
    """Runs the client until the end of the round."""

    def __init__(self, nodes: list, ledger: Ledger, round_number: int, number: int, seed: int):
        super().__init__(daemon=True)
        self.nodes, self.ledger, self.number = nodes, ledger, number
        self.round_number = round_number
        self.random = random.Random(f"{seed}-{round_number}-{number}")
        self.noise = numpy.random.default_rng([seed % 2**32, round_number, number])
        self.session = requests.Session()
        self.count, self.failure = 0, None

    @property
    def is_over(self) -> bool:
        return self.ledger.killed.is_set()

    def run(self) -> None:
        try:
            while not self.is_over:
                self.act()
        except Exception as failure:  # Shown by the main thread.
            self.failure = failure

    def a_node(self) -> Server:
        return self.random.choice(self.nodes)


class Modality(Client):
    """Makes instances in studies and series shared by all clients, and sends each instance to one node or to two at once."""

    def act(self) -> None:
        files = dict(self.make() for _ in range(self.random.randint(1, self.most_at_once)))
        first, *second = self.random.sample(self.nodes, self.random.choice([1, 1, 2]))
        senders = [threading.Thread(target=self.send_until_done, args=(first, files))]
        senders += [threading.Thread(target=self.send_until_done, args=(node, files)) for node in second]
        for sender in senders:
            sender.start()
        for sender in senders:
            sender.join()
        if self.failure:
            raise self.failure

    def make(self) -> tuple:
        self.count += 1
        study = f"{UID_ROOT}.{self.round_number}.{self.random.randrange(STUDIES) + 1}"
        series = f"{study}.{self.random.randrange(SERIES) + 1}"
        instance = f"{series}.{self.number}.{self.count}"
        side = LARGE_SIDE if self.random.random() < 0.01 else self.random.choice(SIDES)
        return instance, encode(build(study, series, instance, side, self.noise))

    def send_until_done(self, node: Server, files: dict) -> None:
        """Sends to this node first, then to any node, like a modality with several destinations."""
        left = dict(files)
        try:
            while left:
                for instance in self.send(node, left):
                    del left[instance]
                if self.is_over:
                    return
                if left:
                    time.sleep(PAUSE_SECONDS)
                    node = random.choice(self.nodes)
        except Exception as failure:
            self.failure = failure


class StowModality(Modality):
    most_at_once = 6

    def send(self, node: Server, files: dict) -> list:
        """One request; the instances that were acknowledged."""
        with requests.Session() as session:
            return send_by_stow(session, node, self.ledger, files)


def send_by_stow(session: requests.Session, node: Server, ledger: Ledger, files: dict) -> list:
    sends = {instance: ledger.send(instance, file) for instance, file in files.items()}
    try:
        answer = stow(session, node, list(files.values()), HTTP_SECONDS)
    except requests.RequestException:
        return []
    if answer.status_code >= 500:
        return []
    if answer.status_code not in (200, 202, 409):
        raise RuntimeError(f"STOW answered {answer.status_code}: {answer.text[:300]}")
    said = answer.json()
    for failed in said.get("00081198", {}).get("Value", []):
        if value(failed, "00081197") not in FAILED:
            raise RuntimeError(f"STOW refuses what is right: {failed}")
    stored = [value(each, "00081155") for each in said.get("00081199", {}).get("Value", [])]
    if not set(stored) <= set(files):
        raise RuntimeError(f"STOW says to have stored {stored}, sent were {sorted(files)}")
    ledger.acknowledge({instance: sends[instance] for instance in stored})
    return stored


class CStoreModality(Modality):
    """Sends by dcmtk's storescu, which ends at once when its peer is gone."""

    most_at_once = 4

    def send(self, node: Server, files: dict) -> list:
        """One association; the instances that were acknowledged."""
        self.ledger.sent_by_c_store.update(files)
        with tempfile.TemporaryDirectory(prefix="cuspid-send-") as directory:
            paths = [Path(directory) / instance for instance in files]
            for path, file in zip(paths, files.values()):
                path.write_bytes(file)
            sends = {instance: self.ledger.send(instance, file) for instance, file in files.items()}
            options = ["-v", "-aec", AE_TITLE, "-to", "10", "-ta", "30", "-td", str(C_STORE_SECONDS)]
            command = ["storescu", *options, "127.0.0.1", str(node.dimse_port), *paths]
            said = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL).stdout
        # storescu ends with the first instance whose status is not a success.
        statuses = re.findall(r"Received Store Response \((.*)\)", said)
        done = [instance for instance, status in zip(files, statuses) if status == "Success"]
        self.ledger.acknowledge({instance: sends[instance] for instance in done})
        if len(statuses) > len(done) and not statuses[-1].startswith("Refused"):
            raise RuntimeError(f"C-STORE answered {statuses}")
        return done


class Deleter(Client):
    """Deletes acknowledged instances, sometimes their series, and one of the studies."""

    def act(self) -> None:
        time.sleep(self.random.uniform(0, 0.15))
        stored = self.ledger.stored()
        if stored:
            self.delete(self.random.choice(stored))

    def delete(self, instance: str) -> None:
        uid, path = deletion_of(self.random, instance, [24, 2, 1])
        deletion = self.ledger.begin_deletion(uid)
        try:
            answer = self.session.delete(f"{self.a_node().url}{path}", timeout=HTTP_SECONDS)
        except requests.RequestException:
            return
        if answer.status_code in (204, 404):
            deletion.is_acknowledged = answer.status_code == 204
            deletion.ended = time.monotonic()
        elif answer.status_code < 500:
            raise RuntimeError(f"DELETE answered {answer.status_code}: {answer.text[:300]}")


class Reader(Client):
    """Reads acknowledged instances from any node: each is there, with its bytes, unless a client deletes it."""

    def act(self) -> None:
        time.sleep(self.random.uniform(0, 0.05))
        stored = self.ledger.stored()
        if not stored:
            return
        instance = self.random.choice(stored)
        series, study = instance.rsplit(".", 2)[0], instance.rsplit(".", 3)[0]
        node = self.a_node()
        url = f"{node.url}/studies/{study}/series/{series}/instances/{instance}"
        must_be_there = self.ledger.is_to_be_there(instance)
        try:
            accept = {"Accept": "application/dicom; transfer-syntax=*"}
            answer = self.session.get(url, headers=accept, timeout=HTTP_SECONDS)
        except requests.RequestException:
            return
        if answer.status_code == 200 and not self.ledger.is_sent(instance, answer.content):
            raise RuntimeError(f"{instance} is not what was sent, on {node.directory.name}")
        # A deletion may have begun after the list of instances was read.
        if answer.status_code == 404 and must_be_there and self.ledger.is_to_be_there(instance):
            raise RuntimeError(f"{instance} was acknowledged and is not on {node.directory.name}")
        if answer.status_code < 500 and answer.status_code not in (200, 404):
            raise RuntimeError(f"GET answered {answer.status_code}: {answer.text[:300]}")
