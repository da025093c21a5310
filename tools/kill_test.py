#!/usr/bin/env python3
"""Kills the server with SIGKILL at random moments of parallel ingest and deletion, and proves that acknowledged operations
are durable: stored instances are there, deleted ones are not.

In each round several clients store small instances by STOW-RS and C-STORE, into studies that they share, and another
deletes instances, series and studies, until the server is killed; previews are being made meanwhile. Some rounds kill
twice before anything is looked at, some kill the next starts before they are ready. Afterwards every acknowledged
instance must be found by QIDO and retrieved with the bytes that were sent, unless it was deleted; what was not
acknowledged may be there, but then whole; the counts of studies and series must equal what can be retrieved. Every
fifth round `cuspid check` must find nothing worse than orphans. At the end an index that is built again must give the
same answers, and `check` must name an object that is damaged and one that is deleted, or this test could not fail.

The moments depend on a seed, which is printed; `--seed` repeats it as far as clocks allow.
"""

import argparse
import random
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy
import requests
from instances import (
    UID_ROOT,
    Ledger,
    Send,
    build,
    count,
    count_differences,
    deletion_of,
    encode,
    play_rounds,
    retrieve,
    stow,
    value,
)
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from pynetdicom import AE

sys.path.insert(0, str(Path(__file__).parent.parent / "conformance"))

from cuspid_server import AE_TITLE, Server  # noqa: E402

STUDIES_PER_ROUND = 2
STOW_CLIENTS = 3
C_STORE_CLIENTS = 2
# Every so many rounds; some rounds have both.
CHECK_EVERY, KILL_TWICE_EVERY, KILL_STARTS_EVERY = 5, 4, 3
# A start takes some 15 milliseconds, more if recovery has unconfirmed objects to look at.
START_SECONDS = 0.05
# pynetdicom may miss the end of a connection, and then waits 30 seconds for its answer.
JOIN_SECONDS = 60


class Sender(threading.Thread):
    """A client that stores instances in studies and series shared with other clients, until the server is killed."""

    def __init__(self, server: Server, ledger: Ledger, round_number: int, worker: int, seed: int):
        super().__init__(daemon=True)
        self.server, self.ledger = server, ledger
        self.prefix = f"{UID_ROOT}.{round_number}"
        self.worker, self.random = worker, random.Random(f"{seed}-{round_number}-{worker}")
        self.noise = numpy.random.default_rng([seed % 2**32, round_number, worker])
        self.count = 0
        self.failure, self.association = None, None

    def run(self) -> None:
        try:
            self.act()
            failure = RuntimeError("the association ended")
        except (OSError, requests.RequestException) as error:
            failure = error
        except Exception as error:  # Shown by the main thread.
            self.failure = error
            return
        # A connection cut by the kill is expected; a connection cut before is a fault.
        if not self.ledger.killed.is_set():
            self.failure = failure

    def end(self) -> None:
        """Waits for the end of a client after the kill."""
        self.join(JOIN_SECONDS)

    def stands_at(self) -> str:
        """The stack of the client's thread, the innermost line last."""
        return "".join(traceback.format_stack(sys._current_frames()[self.ident]))

    def make(self) -> tuple[Dataset, Send]:
        self.count += 1
        study = f"{self.prefix}.{self.random.randrange(STUDIES_PER_ROUND) + 1}"
        series = f"{study}.{self.random.randrange(2) + 1}"
        instance = f"{series}.{self.worker}.{self.count}"
        data_set = build(study, series, instance, self.random.choice([8, 32, 100]), self.noise)
        return data_set, self.ledger.send(instance, encode(data_set))


class StowSender(Sender):
    def act(self) -> None:
        with requests.Session() as session:
            while True:
                made = [self.make() for _ in range(self.random.randint(1, 6))]
                sends = {data_set.SOPInstanceUID: send for data_set, send in made}
                answer = stow(session, self.server, [self.ledger.sent[instance] for instance in sends])
                if answer.status_code != 200:
                    raise RuntimeError(f"STOW answered {answer.status_code}: {answer.text[:300]}")
                self.ledger.acknowledge(sends)


class CStoreSender(Sender):
    def act(self) -> None:
        client = AE("KILLTEST")
        client.add_requested_context(CTImageStorage, ExplicitVRLittleEndian)
        association = client.associate("127.0.0.1", self.server.dimse_port, ae_title=AE_TITLE)
        self.association = association
        while association.is_established:
            data_set, send = self.make()
            self.ledger.sent_by_c_store.add(data_set.SOPInstanceUID)
            try:
                status = association.send_c_store(data_set)
            except RuntimeError:
                return  # The association ended between the test and the sending.
            if "Status" not in status:
                return
            if status.Status != 0:
                raise RuntimeError(f"C-STORE answered {status.Status:#06x}")
            self.ledger.acknowledge({data_set.SOPInstanceUID: send})

    def end(self) -> None:
        """Works around pynetdicom 3.0.4, which waits forever for the association's thread to pause if that thread has just ended."""
        super().end()
        if self.is_alive() and self.association and not self.association.is_alive():
            self.association._is_paused = True
            super().end()


class Deleter(Sender):
    """A client that deletes stored instances, sometimes their series, and one of the studies."""

    def act(self) -> None:
        with requests.Session() as session:
            while True:
                time.sleep(self.random.uniform(0, 0.03))
                stored = self.ledger.stored()
                if stored:
                    self.delete(session, self.random.choice(stored))

    def delete(self, session: requests.Session, instance: str) -> None:
        uid, path = deletion_of(self.random, instance, [16, 3, 2])
        deletion = self.ledger.begin_deletion(uid)
        answer = session.delete(f"{self.server.url}{path}", timeout=30)
        if answer.status_code not in (204, 404):
            raise RuntimeError(f"DELETE answered {answer.status_code}: {answer.text[:300]}")
        deletion.is_acknowledged = answer.status_code == 204
        deletion.ended = time.monotonic()


def ingest_until_killed(server: Server, ledger: Ledger, round_number: int, attempt: int, seed: int) -> None:
    """Stores until the kill. Each attempt of a round stores other instances in the same studies."""
    ledger.first.clear()
    ledger.killed.clear()
    kinds = [StowSender] * STOW_CLIENTS + [CStoreSender] * C_STORE_CLIENTS + [Deleter]
    workers = range(attempt * len(kinds) + 1, (attempt + 1) * len(kinds) + 1)
    senders = [kind(server, ledger, round_number, worker, seed) for worker, kind in zip(workers, kinds)]
    for sender in senders:
        sender.start()
    if not ledger.first.wait(30):
        raise RuntimeError("nothing was acknowledged")
    time.sleep(random.Random(f"{seed}-{round_number}-{attempt}").uniform(0, 0.6))
    ledger.killed.set()
    server.kill()
    for sender in senders:
        sender.end()
        if sender.failure or sender.is_alive():
            kind = type(sender).__name__
            raise RuntimeError(f"a client failed: {kind}: {sender.failure or f'it hangs: {sender.stands_at()}'}")
    # Operations in progress have ended: the next start finishes them before it accepts requests.
    for deletion in ledger.deletions:
        deletion.ended = min(deletion.ended, time.monotonic())


def kill_starts(server: Server, round_number: int, seed: int) -> None:
    """Starts the server a few times and kills it before or just after it is ready."""
    moments = random.Random(f"{seed}-{round_number}-start")
    for _ in range(3):
        server.launch()
        time.sleep(moments.uniform(0, START_SECONDS))
        if server.process.poll() is not None:
            raise RuntimeError("the server did not start:\n" + server.log()[-2000:])
        server.kill()


def differences(server: Server, ledger: Ledger, round_number: int) -> list:
    """Texts that name all differences between the server and the operations that it acknowledged."""
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
    for instance in sorted(ledger.must_be_there() - set(there)):
        found.append(f"{instance} was acknowledged and is missing")
    for instance in sorted(ledger.must_be_gone() & set(there)):
        found.append(f"{instance} was deleted and is there")
    for instance, file in there.items():
        if not ledger.is_sent(instance, file):
            found.append(f"{instance} is not what was sent")
    return found


def store_the_rest(server: Server, ledger: Ledger) -> list:
    """Sends the instances again that were not acknowledged, like their client; each must succeed, whether stored before or not."""
    rest = set(ledger.sent) - ledger.acknowledged
    sends = {instance: ledger.send(instance, ledger.sent[instance]) for instance in rest}
    by_stow = [ledger.sent[instance] for instance in sorted(rest - ledger.sent_by_c_store)]
    found = []
    if by_stow:
        with requests.Session() as session:
            answer = stow(session, server, by_stow)
        if answer.status_code != 200:
            found.append(f"sending again by STOW was answered with {answer.status_code}: {answer.text[:300]}")
    # Not by STOW-RS: for C-STORE the server wrote another file header, so that the bytes under the UID would differ.
    client = AE("KILLTEST")
    client.add_requested_context(CTImageStorage, ExplicitVRLittleEndian)
    association = client.associate("127.0.0.1", server.dimse_port, ae_title=AE_TITLE)
    for instance in sorted(rest & ledger.sent_by_c_store):
        status = association.send_c_store(dcmread(BytesIO(ledger.sent[instance]))).get("Status")
        if status != 0:
            found.append(f"sending {instance} again by C-STORE was answered with {status}")
    association.release()
    ledger.acknowledge(sends)
    return found


def check_is_clean(server: Server) -> list:
    """Checks the data of a killed server: only orphans are allowed, and `--repair` removes them."""
    done = server.check()
    if done.returncode != 0:
        return [f"check: {done.stdout[-1000:]}{done.stderr[-1000:]}"]
    if "orphan: " not in done.stdout:
        return []
    server.check("--repair")
    again = server.check()
    return [] if again.returncode == 0 and "orphan: " not in again.stdout else [f"repaired, but: {again.stdout[-1000:]}"]


def answers(server: Server) -> dict:
    """The answers of QIDO-RS for every study, series and instance."""
    said = {}
    for level, tags in {"studies": ["0020000D"], "series": ["0020000E"], "instances": ["00080018"]}.items():
        answer = requests.get(f"{server.url}/{level}?includefield=all&limit=100000", timeout=60)
        answer.raise_for_status()
        said |= {(level, *(value(result, tag) for tag in tags)): result for result in answer.json()}
    return said


def reindex_says_the_same(server: Server) -> list:
    """Builds the index again from the objects alone; the answers must not change."""
    before = answers(server)
    if not before:
        return ["QIDO says nothing at all"]
    server.stop()
    done = server.reindex()
    server.start()
    if done.returncode != 0:
        return [f"reindex: {done.stdout[-1000:]}{done.stderr[-1000:]}"]
    after = answers(server)
    changed = [key for key in before.keys() | after.keys() if before.get(key) != after.get(key)]
    return [f"QIDO says something else of {' '.join(key)}" for key in sorted(changed)[:20]]


def damage_is_noticed(server: Server, ledger: Ledger, round_number: int) -> list:
    """Changes a byte of one stored object and deletes another; `check` must name both, the comparison must notice."""
    prefix = f"{UID_ROOT}.{round_number}."
    originals = server.data / "originals"
    victims = sorted(path for path in originals.rglob("*") if path.is_file() and f"/{prefix}" in str(path))
    if len(victims) < 2:
        return ["no stored objects to damage"]
    damaged, deleted = victims[0], victims[-1]
    server.stop()
    content = bytearray(damaged.read_bytes())
    content[-2] ^= 1
    damaged.write_bytes(content)
    deleted.unlink()
    done = server.check()
    missed = [] if done.returncode != 0 else ["check says that all is well"]
    for kind, path in [("damaged", damaged), ("missing", deleted)]:
        named = [line for line in done.stdout.splitlines() if line.startswith(f"{kind}: ")]
        if len(named) != 1 or not named[0].endswith(str(path.relative_to(originals))):
            missed.append(f"of the {kind} object check says {named}")
    server.start()
    return missed + ([] if differences(server, ledger, round_number) else ["the comparison did not notice it"])


def play(server: Server, number: int, seed: int) -> tuple[Ledger, list]:
    """Runs one round. Returns its ledger and its faults."""
    ledger, found = Ledger(), []
    ingest_until_killed(server, ledger, number, 0, seed)
    if number % KILL_TWICE_EVERY == 0:
        server.start()
        ingest_until_killed(server, ledger, number, 1, seed)
    if number % KILL_STARTS_EVERY == 0:
        kill_starts(server, number, seed)
    acknowledged = len(ledger.acknowledged)
    if number % CHECK_EVERY == 0:
        # Before the rest is sent again, because that would adopt orphans.
        found += check_is_clean(server)
    server.start()
    found += differences(server, ledger, number) + store_the_rest(server, ledger)
    deleted = sum(deletion.is_acknowledged for deletion in ledger.deletions)
    print(
        f"round {number}: {acknowledged} acknowledged of {len(ledger.sent)} sent, {deleted} deletions of "
        f"{len(ledger.deletions)}, {len(ledger.must_be_gone())} gone, {len(found)} faults",
        flush=True,
    )
    return ledger, found


def run(server: Server, rounds: int, seed: int) -> Iterator[tuple[str, list]]:
    """The claims in turn, each with the faults found. Ends after the first round with a fault."""
    server.start()
    ledgers = yield from play_rounds(lambda number: play(server, number, seed), rounds)
    if ledgers is None:
        return
    late = {number: differences(server, ledger, number) for number, ledger in ledgers.items()}
    yield "all rounds are intact at the end", [fault for found in late.values() for fault in found]
    previews = sum(path.is_file() for path in (server.data / "previews").rglob("*"))
    yield "previews were being made", [] if previews else ["there are none"]
    server.kill()
    yield "check is clean at the end", check_is_clean(server)
    server.start()
    yield "a rebuilt index says the same", reindex_says_the_same(server)
    yield "damage is noticed and named", damage_is_noticed(server, ledgers[rounds], rounds)


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rounds", type=int, default=50)
    arguments.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    chosen = arguments.parse_args()
    print(f"seed {chosen.seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="cuspid-kill-") as directory:
        server = Server(Path(directory), "preview.quiet_seconds=0", "log.filter=warn")
        try:
            passed, failed = count(run(server, chosen.rounds, chosen.seed))
        finally:
            if server.process:
                server.kill()
        if "panicked" in server.log():
            print(f"FAILED nothing panics: {server.log()[-2000:]}")
            failed += 1
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
