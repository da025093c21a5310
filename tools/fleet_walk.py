#!/usr/bin/env python3
"""Makes each request of an operation to S3 or DynamoDB fail in turn, or kills the node at it, and proves that nothing is lost.

    tools/cloud.py tools/fleet_walk.py [--long] [--seed 1]

The operations are storing, deleting and reading. For each n from one to the number of requests of the operation, the nth request fails
in one way. The operation must then succeed, because a retry follows one fault, unless the node is killed. Another node must show what
was acknowledged, each instance wholly or not at all, and exact counts. The same operation must then succeed on that node. The short
form has the three worst kinds of faults; `--long` has all.
"""

import argparse
import random
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import faults
import numpy
import requests
from faults import Fault
from fleet import Fleet
from instances import UID_ROOT, build, count_differences, encode, retrieve, stow

SIDE = 32
# Longer than the time-out of a request, see SETTINGS.
DELAY_SECONDS = 1.5
SETTINGS = [
    "preview.enabled=false",
    # Without a cache, so that every operation makes requests.
    "s3.cache_max_bytes=0",
    "dynamodb.request_timeout_seconds=1",
    "s3.read_timeout_seconds=1",
    "s3.upload_timeout_seconds=1",
]
KILL_BEFORE, KILL_AFTER = "the node is killed before it is passed on", "carried out, and the node is killed"
SHORT = [faults.ERROR, faults.CUT_AFTER, KILL_AFTER]
LONG = [*faults.KINDS, KILL_BEFORE, KILL_AFTER]
MOST_REQUESTS = 60


@dataclass
class Study:
    """Two stored instances of one series, and a third one to store."""

    uid: str
    files: dict

    @property
    def series(self) -> str:
        return f"{self.uid}.1"

    def path(self, number: int) -> str:
        return f"/studies/{self.uid}/series/{self.series}/instances/{self.series}.{number}"


class Walk:
    """The fleet, and the operations: each returns whether it was acknowledged; reading also checks what it reads."""

    def __init__(self, fleet: Fleet, seed: int):
        self.fleet, self.node, self.other = fleet, *fleet.servers
        self.noise, self.choices = numpy.random.default_rng(seed), random.Random(seed)
        self.count = 0

    def prepare(self) -> Study:
        self.count += 1
        uid = f"{UID_ROOT}.{self.count}"
        files = {n: encode(build(uid, f"{uid}.1", f"{uid}.1.{n}", SIDE, self.noise)) for n in (1, 2, 3)}
        with requests.Session() as session:
            stow(session, self.other, [files[1], files[2]]).raise_for_status()
        return Study(uid, files)

    def store(self, node, study: Study) -> bool:
        with requests.Session() as session:
            return stow(session, node, [study.files[3]]).status_code == 200

    def delete_instance(self, node, study: Study) -> bool:
        return requests.delete(f"{node.url}{study.path(1)}", timeout=30).status_code in (204, 404)

    def delete_study(self, node, study: Study) -> bool:
        return requests.delete(f"{node.url}/studies/{study.uid}", timeout=30).status_code in (204, 404)

    def read_instance(self, node, study: Study) -> bool:
        accept = {"Accept": "application/dicom; transfer-syntax=*"}
        return self.read(f"{node.url}{study.path(1)}", accept, lambda body: body == study.files[1])

    def read_frame(self, node, study: Study) -> bool:
        accept = {"Accept": "application/octet-stream; transfer-syntax=*"}
        pixels = study.files[1][-2 * SIDE * SIDE :]
        return self.read(f"{node.url}{study.path(1)}/frames/1", accept, lambda body: body == pixels)

    def read_metadata(self, node, study: Study) -> bool:
        url = f"{node.url}/studies/{study.uid}/series/{study.series}/metadata"
        return self.read(url, {}, lambda body: body.count(b'"00080018"') == 2)

    def search(self, node, study: Study) -> bool:
        url = f"{node.url}/studies/{study.uid}/instances"
        return self.read(url, {}, lambda body: body.count(b'"00080018"') == 2)

    def read(self, url: str, headers: dict, is_right) -> bool:
        answer = requests.get(url, headers=headers, timeout=30)
        if answer.status_code == 200 and not is_right(answer.content):
            raise AssertionError("what is read is wrong")
        if answer.status_code < 500 and answer.status_code != 200:
            raise AssertionError(f"reading was answered with {answer.status_code}")
        return answer.status_code == 200

    # Each operation, and the instances that are stored after it.
    OPERATIONS = {
        "store": (store, {1, 2, 3}),
        "delete_instance": (delete_instance, {2}),
        "delete_study": (delete_study, set()),
        "read_instance": (read_instance, {1, 2}),
        "read_frame": (read_frame, {1, 2}),
        "read_metadata": (read_metadata, {1, 2}),
        "search": (search, {1, 2}),
    }

    def fault(self, kind: str) -> Fault:
        if kind in (KILL_BEFORE, KILL_AFTER):
            cut = faults.CUT_BEFORE if kind == KILL_BEFORE else faults.CUT_AFTER
            return Fault(cut, then=self.node.kill)
        return Fault(kind, DELAY_SECONDS, self.choices.randrange(12))

    def step(self, name: str, kind: str, nth: int) -> tuple[bool, list]:
        """Whether there was an nth request, and what went wrong."""
        operation, after = self.OPERATIONS[name]
        study = self.prepare()
        plan = faults.Nth(nth, self.fault(kind))
        self.fleet.plan(plan)
        try:
            is_acknowledged = operation(self, self.node, study)
            failure = "it was given up" if not is_acknowledged else ""
        except (requests.RequestException, AssertionError) as error:
            is_acknowledged, failure = False, repr(error)
        self.fleet.end_faults()
        if plan.request is None:
            return False, [f"without any fault: {failure}"] if failure else []
        found = []
        if kind in (KILL_BEFORE, KILL_AFTER):
            self.node.start()
        elif failure:
            found.append(failure)
        found += self.differences(study, after, must_be_done=is_acknowledged)
        if not operation(self, self.node, study):
            found.append("asking again does not succeed")
        found += self.differences(study, after, must_be_done=True)
        return True, [f"{name}, {kind}, request {plan.request}: {each}" for each in found]

    def differences(self, study: Study, after: set, must_be_done: bool) -> list:
        """Compares the other node with the expected state: each instance is as before or as after the operation."""
        before = {1, 2}
        with requests.Session() as session:
            there = retrieve(session, self.other, study.uid)
            found = count_differences(session, self.other, study.uid, set(there))
        numbers = {int(uid.rpartition(".")[2]) for uid in there}
        is_between = before & after <= numbers <= before | after
        if numbers != after if must_be_done else not is_between:
            found.append(f"{sorted(numbers)} are there instead of {sorted(after)}")
        return found + [f"{uid} is damaged" for uid, file in there.items() if file not in study.files.values()]


def walk(fleet: Fleet, kinds: list, seed: int) -> list:
    walking, found = Walk(fleet, seed), []
    for name in Walk.OPERATIONS:
        began, steps = time.monotonic(), 0
        for kind in kinds:
            for nth in range(1, MOST_REQUESTS):
                has_happened, wrong = walking.step(name, kind, nth)
                found += wrong
                steps += has_happened
                if not has_happened:
                    break
        print(f"{name}: {steps} faults in {time.monotonic() - began:.1f} s, {len(found)} differences", flush=True)
    return found


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--long", action="store_true", help="all ways to fail")
    arguments.add_argument("--seed", type=int, default=1)
    chosen = arguments.parse_args()
    with tempfile.TemporaryDirectory(prefix="cuspid-walk-") as directory:
        with Fleet(Path(directory), *SETTINGS, servers=2, workers=0) as fleet:
            found = walk(fleet, LONG if chosen.long else SHORT, chosen.seed)
            found += fleet.panics()
            done = fleet.check()
            if done.returncode != 0:
                found.append(f"check: {done.stdout[-1000:]}{done.stderr[-1000:]}")
            for each in found:
                print(f"FAILED {each}")
            if found:
                print(fleet.logs())
    print(f"{len(found)} failed")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
