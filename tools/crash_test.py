#!/usr/bin/env python3
"""Copies the disk of a running server at random moments, as a loss of power would leave it, and proves that a server on the
copy has everything that was acknowledged. Needs root and loop devices.

The data directory is on a file system in an image file (ext4 with a journal, then XFS). Clients store small instances by
STOW-RS and C-STORE. At each moment the server is stopped (SIGSTOP) and the image is copied: what no flush has written is in
the kernel's memory only, and not in the copy. A copy during which the image changed is made again. The copy is mounted, a server is
started on it, and every instance that was acknowledged before the moment must be found and have the bytes that were sent;
the counts must be right, and `cuspid check` must find nothing worse than orphans.

That a copy does lose what is not flushed is proved with a file beside the data directory.
"""

import argparse
import filecmp
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import requests
from instances import UID_ROOT, Ledger, count_differences, retrieve
from kill_test import STUDIES_PER_ROUND, CStoreSender, StowSender

sys.path.insert(0, str(Path(__file__).parent.parent / "conformance"))

from cuspid_server import Server  # noqa: E402

IMAGE_BYTES = 600 << 20
MAKE = {"ext4": ["mkfs.ext4", "-q"], "xfs": ["mkfs.xfs", "-q", "-f"]}
# XFS refuses a second file system with the same UUID.
OPTIONS = {"ext4": "defaults", "xfs": "nouuid"}
COPY_ATTEMPTS = 20


class PersistentStow(StowSender):
    """Goes on after a time-out: the server stands still while the image is copied."""

    def act(self) -> None:
        while not self.ledger.killed.is_set():
            try:
                super().act()
            except requests.Timeout:
                pass


class PersistentCStore(CStoreSender):
    """Associates again after the end of an association, for the same reason."""

    def act(self) -> None:
        while not self.ledger.killed.is_set():
            super().act()


def run(*command: object) -> str:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(str(word) for word in command)}: {done.stderr.strip()}")
    return done.stdout.strip()


class Disk:
    """A mounted image; unmounted at the end."""

    def __init__(self, image: Path, kind: str, mounted: Path):
        self.mounted = mounted
        mounted.mkdir(exist_ok=True)
        self.device = run("losetup", "--direct-io=on", "--show", "-f", image)
        try:
            run("mount", "-o", OPTIONS[kind], self.device, mounted)
        except RuntimeError:
            run("losetup", "-d", self.device)
            raise

    def __enter__(self) -> Path:
        return self.mounted

    def __exit__(self, *_: object) -> None:
        run("umount", self.mounted)
        run("losetup", "-d", self.device)


def copy_at_a_moment(image: Path, copy: Path) -> None:
    """Copies an image to which the kernel may write meanwhile, until a copy is of one moment."""
    for _ in range(COPY_ATTEMPTS):
        run("cp", "--sparse=always", image, copy)
        if filecmp.cmp(image, copy, shallow=False):
            return
    raise RuntimeError("the image never stands still")


def differences(server: Server, ledger: Ledger, acknowledged: set) -> list:
    """Texts that name all differences between the server on the copy and what was acknowledged."""
    found, there = [], {}
    with requests.Session() as session:
        for number in range(1, STUDIES_PER_ROUND + 1):
            study = f"{UID_ROOT}.1.{number}"
            retrieved = retrieve(session, server, study)
            found += count_differences(session, server, study, set(retrieved))
            there |= retrieved
    found += [f"{instance} was acknowledged and is missing" for instance in sorted(acknowledged - set(there))]
    found += [f"{i} is not what was sent" for i, file in there.items() if not ledger.is_sent(i, file)]
    return found


def look_at_the_copy(copy: Path, kind: str, work: Path, unflushed: str, ledger: Ledger, acknowledged: set) -> list:
    with Disk(copy, kind, work / "copy") as mounted:
        if (mounted / unflushed).exists() and (mounted / unflushed).read_bytes():
            return ["a file that was not flushed is in the copy: this test could not fail"]
        server = Server(work)
        server.data = mounted / "data"
        server.start()
        try:
            found = differences(server, ledger, acknowledged)
        finally:
            server.stop()
        check = server.check()
        return found + ([] if check.returncode == 0 else [f"check: {check.stdout[-1000:]}{check.stderr[-1000:]}"])


def play(kind: str, moments: int, seed: int, work: Path) -> int:
    """Runs the test on one kind of file system. Returns the number of faults."""
    image, copy = work / f"{kind}.img", work / f"{kind}.copy"
    with open(image, "wb") as file:
        # Written, not only allocated, so that the device below does nothing of its own.
        for _ in range(IMAGE_BYTES >> 20):
            file.write(bytes(1 << 20))
    run(*MAKE[kind], image)
    moment, faults = random.Random(f"{seed}-{kind}"), 0
    with Disk(image, kind, work / "disk") as mounted:
        server, ledger = Server(work), Ledger()
        server.data = mounted / "data"
        server.start()
        kinds = [PersistentStow, PersistentCStore] * 2
        senders = [sender(server, ledger, 1, worker, seed) for worker, sender in enumerate(kinds)]
        for sender in senders:
            sender.start()
        try:
            if not ledger.first.wait(30):
                raise RuntimeError("nothing was acknowledged")
            for number in range(moments):
                # Some moments lie before and some behind a checkpoint of the index.
                time.sleep(moment.uniform(0.05, 2.5))
                if server.has_ended():
                    raise RuntimeError("the server has ended:\n" + server.log()[-2000:])
                acknowledged = set(ledger.stored())
                os.kill(server.process.pid, signal.SIGSTOP)
                try:
                    (mounted / f"unflushed-{number}").write_bytes(b"this is in memory only")
                    copy_at_a_moment(image, copy)
                finally:
                    os.kill(server.process.pid, signal.SIGCONT)
                found = look_at_the_copy(copy, kind, work, f"unflushed-{number}", ledger, acknowledged)
                print(f"{kind}, moment {number + 1}: {len(acknowledged)} acknowledged, {len(found)} faults", flush=True)
                for fault in found[:20]:
                    print(f"  {fault}", flush=True)
                faults += len(found)
        finally:
            ledger.killed.set()
            server.kill()
            for sender in senders:
                sender.end()
    for sender in senders:
        if sender.failure:
            raise sender.failure
    return faults


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--moments", type=int, default=10, help="for each file system")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("kinds", nargs="*", help="file systems: ext4, xfs (both by default)")
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}", flush=True)
    work, faults = Path(tempfile.mkdtemp(prefix="cuspid-crash-")), 0
    try:
        for kind in arguments.kinds or MAKE:
            faults += play(kind, arguments.moments, arguments.seed, work)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
