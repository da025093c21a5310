#!/usr/bin/env python3
"""Counts the requests to S3 and DynamoDB that operations make, and compares them with their limits.

    tools/cloud.py --only radosgw,amazon tools/costs_test.py
"""

import sys
import tempfile
from collections import Counter
from pathlib import Path

import numpy
import requests
from faults import Request
from fleet import Fleet, wait_for
from instances import UID_ROOT, build, encode, stow

STUDY = UID_ROOT
SERIES = f"{STUDY}.1"
SIDE, IN_SERIES = 32, 400
# No previews, and no background jobs.
SETTINGS = ["preview.enabled=false"]
READS = ("GetItem", "Query", "BatchGetItem", "TransactGetItems", "Scan")
WRITES = ("PutItem", "UpdateItem", "DeleteItem", "BatchWriteItem", "TransactWriteItems")
# The limits of each operation: (index reads, index writes, S3 requests by kind). The first event of a group in the audit log is a
# write, and a read of the patient where data are given out; the log of a process begins with a read (decisions 0143 and 0144).
LIMITS = {
    # The record is written alone, and the rest in a transaction (decision 0114).
    "a first instance is stored": (3, 3, {"PUT": 1}),
    "a further instance is stored": (1, 2, {"PUT": 1}),
    # The stored object is read to know that it is intact (decision 0093).
    "a known instance is sent again": (1, 1, {"HEAD": 1, "ranged GET": 1}),
    "a frame is read": (2, 1, {"ranged GET": 1}),
    "another frame of the instance is read": (1, 0, {"ranged GET": 1}),
    "an instance is read": (2, 1, {"ranged GET": 1}),
    "the metadata of a series of 400 are read, warm": (3, 0, {"ranged GET": 1}),
    "a study is searched by its UID": (2, 1, {}),
    "the study list is read": (2, 1, {}),
}


def count(asked: list[Request]) -> tuple[int, int, Counter, Counter]:
    """Index reads, index writes, S3 requests by kind, and DynamoDB's by operation."""
    s3, dynamodb = Counter(), Counter()
    for request in asked:
        if request.operation:
            dynamodb[request.operation] += 1
        else:
            s3["ranged GET" if "range" in request.headers else request.method] += 1
    reads = sum(dynamodb[operation] for operation in READS)
    writes = sum(dynamodb[operation] for operation in WRITES)
    return reads, writes, s3, dynamodb


class Operations:
    """The counted operations, in the order in which they run."""

    def __init__(self, fleet: Fleet):
        self.node, self.cloud = fleet.servers[0], fleet.cloud
        noise = numpy.random.default_rng(1)
        make = lambda number: encode(build(STUDY, SERIES, f"{SERIES}.{number}", SIDE, noise))
        self.files = [make(number + 1) for number in range(IN_SERIES)]

    def wait_for_first_probe(self, proxy) -> None:
        """A server that has started writes and deletes an object and a row, the row last."""
        deleted = lambda: any(request.operation == "DeleteItem" for request in proxy.take_requests())
        assert not wait_for("the first probe", lambda: [] if deleted() else ["no row was deleted"], 60)

    def store(self, files: list) -> None:
        with requests.Session() as session:
            assert stow(session, self.node, files).status_code == 200

    def get(self, path: str, accept: str = "application/dicom+json") -> None:
        answer = requests.get(f"{self.node.url}{path}", headers={"Accept": accept}, timeout=60)
        assert answer.status_code == 200, f"{path}: {answer.status_code} {answer.text[:200]}"

    def get_cold_metadata(self, path: str) -> None:
        """The first request for the metadata of a series also writes its metadata bundle, and its text in two codings."""
        self.get(path)
        missing = lambda: [] if len(self.cloud.objects("temporary/")) == 3 else ["there are not all three"]
        assert not wait_for("the metadata as one object", missing, 60)

    def all(self) -> dict:
        series = f"/studies/{STUDY}/series/{SERIES}"
        frame = lambda number: self.get(
            f"{series}/instances/{SERIES}.{number}/frames/1", "application/octet-stream; transfer-syntax=*"
        )
        instance = f"{series}/instances/{SERIES}.3"
        return {
            "a first instance is stored": lambda: self.store(self.files[:1]),
            "a further instance is stored": lambda: self.store(self.files[1:2]),
            "a known instance is sent again": lambda: self.store(self.files[1:2]),
            "398 instances are stored in one request": lambda: self.store(self.files[2:]),
            "a frame is read": lambda: frame(1),
            "another frame of the instance is read": lambda: frame(2),
            "an instance is read": lambda: self.get(instance, "application/dicom; transfer-syntax=*"),
            "the metadata of a series of 400 are read, cold": lambda: self.get_cold_metadata(f"{series}/metadata"),
            "the metadata of a series of 400 are read, warm": lambda: self.get(f"{series}/metadata"),
            "a study is searched by its UID": lambda: self.get(f"/studies?StudyInstanceUID={STUDY}"),
            "the study list is read": lambda: self.get("/studies?limit=101"),
            "400 instances are searched": lambda: self.get(f"{series}/instances"),
        }


def exceeds(name: str, reads: int, writes: int, s3: Counter) -> bool:
    if name not in LIMITS:
        return False
    most_reads, most_writes, most_s3 = LIMITS[name]
    return reads > most_reads or writes > most_writes or any(s3[kind] > most_s3.get(kind, 0) for kind in s3)


def main() -> int:
    failed = []
    with tempfile.TemporaryDirectory(prefix="cuspid-costs-") as directory:
        with Fleet(Path(directory), *SETTINGS, servers=1, workers=0) as fleet:
            operations = Operations(fleet)
            operations.wait_for_first_probe(fleet.dynamodb)
            for name, act in operations.all().items():
                for proxy in (fleet.s3, fleet.dynamodb):
                    proxy.take_requests()
                act()
                asked = [*fleet.s3.take_requests(), *fleet.dynamodb.take_requests()]
                reads, writes, s3, dynamodb = count(asked)
                counts = ", ".join(f"{number} {what}" for what, number in sorted((s3 + dynamodb).items()))
                print(f"{name}: {counts}", flush=True)
                if exceeds(name, reads, writes, s3):
                    failed.append(f"{name}: {reads} index reads, {writes} writes, limit {LIMITS[name]}")
    for each in failed:
        print(f"FAILED {each}")
    print(f"{len(LIMITS) - len(failed)} passed, {len(failed)} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
