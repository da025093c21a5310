#!/usr/bin/env python3
"""Runs three servers and two workers over one S3 and one DynamoDB that fail, and proves that acknowledged operations are durable.

    tools/cloud.py tools/fleet_test.py [--rounds 4] [--seed 1] [--queue table|sqs]

In each round modalities send instances of the same studies and series by STOW-RS and C-STORE to all nodes, some to two nodes at
once, and again until they are acknowledged; others delete instances, series and studies, and read. Meanwhile nodes and
workers are killed with SIGKILL and started again, and proxies make S3 and DynamoDB fail, late, throttle, and cut connections
before, in and after requests. Then the faults end, all nodes run, and on every node: what was acknowledged is there once, with its
bytes, unless it was deleted; what was deleted is gone; counts are exact; what was not acknowledged can be stored; each series gets its
preview. All the time the feed of changes is read, from any node, and must be complete and in order. Every fifth round, and at the end, `cuspid check` must find nothing worse than orphans. At the end an object that is changed
and one that is removed must be noticed, or this test could not fail.

The faults and moments depend on a seed, which is printed; `--seed` repeats them as far as clocks allow.
"""

import argparse
import os
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import boto3
import requests
from fleet import Fleet, wait_for
from fleet_clients import SERIES, STUDIES, CStoreModality, Deleter, Reader, StowModality, send_by_stow
from fleet_feed import FeedReader
from instances import UID_ROOT, Ledger, count, count_differences, play_rounds, retrieve

CLIENTS = [StowModality, StowModality, StowModality, CStoreModality, CStoreModality, Deleter, Deleter, Reader]
CHECK_EVERY = 5
# One after the other: kills alone, kills and some faults, many faults.
SHARES = [0.03, 0.1, 0.0, 0.25]
PREVIEW_SECONDS = 90
JOIN_SECONDS = 120


def studies(round_number: int) -> list:
    return [f"{UID_ROOT}.{round_number}.{number + 1}" for number in range(STUDIES)]


def kill_at_random(fleet: Fleet, moments: random.Random) -> int:
    """Kills nodes and workers, and starts them again some time later. Returns how many were killed."""
    kills = moments.randint(1, 4)
    for _ in range(kills):
        time.sleep(moments.uniform(0.2, 1.2))
        node = moments.choice(fleet.nodes)
        node.kill()
        time.sleep(moments.uniform(0, 0.5))
        node.launch()
    time.sleep(moments.uniform(0.2, 1))
    return kills


def act(fleet: Fleet, ledger: Ledger, number: int, seed: int) -> tuple[int, list]:
    """Runs clients beside faults and kills. Returns how many nodes were killed, and the faults that clients found."""
    share = SHARES[number % len(SHARES)]
    fleet.make_faults(f"{seed}-{number}", share)
    clients = [kind(fleet.servers, ledger, number, place + 1, seed) for place, kind in enumerate(CLIENTS)]
    for client in clients:
        client.start()
    kills = kill_at_random(fleet, random.Random(f"{seed}-{number}"))
    ledger.killed.set()
    fleet.end_faults()
    deadline = time.monotonic() + JOIN_SECONDS
    for client in clients:
        client.join(max(0, deadline - time.monotonic()))
    found = [f"{type(client).__name__} hangs" for client in clients if client.is_alive()]
    return kills, found + [f"{type(client).__name__}: {client.failure}" for client in clients if client.failure]


def differences(node, ledger: Ledger, number: int) -> list:
    """Texts that name all differences between a node and the acknowledged operations."""
    found, there = [], {}
    with requests.Session() as session:
        for study in studies(number):
            try:
                retrieved = retrieve(session, node, study)
                found += count_differences(session, node, study, set(retrieved))
            except (requests.RequestException, AssertionError) as failure:
                found.append(f"study {study} cannot be retrieved: {failure}")
                continue
            there.update(retrieved)
    for instance in sorted(ledger.must_be_there() - set(there)):
        found.append(f"{instance} was acknowledged and is missing")
    for instance in sorted(ledger.must_be_gone() & set(there)):
        found.append(f"{instance} was deleted and is there")
    for instance, file in there.items():
        if not ledger.is_sent(instance, file):
            found.append(f"{instance} is not what was sent")
    return [f"{node.directory.name}: {fault}" for fault in found]


def store_the_rest(fleet: Fleet, ledger: Ledger) -> list:
    """Sends the instances again that were not acknowledged, like their client; each must succeed, whether stored before or not."""
    files = {i: file for i, file in ledger.sent.items() if i not in ledger.acknowledged}
    if not files:
        return []
    with requests.Session() as session:
        stored = send_by_stow(session, fleet.servers[0], ledger, files)
    return [f"{instance} cannot be stored" for instance in sorted(set(files) - set(stored))]


def without_preview(fleet: Fleet, number: int) -> list:
    """The series of a round that have no preview, with a node's answer."""
    node, missing = fleet.servers[-1], []
    with requests.Session() as session:
        for study in studies(number):
            for series in [f"{study}.{place + 1}" for place in range(SERIES)]:
                url = f"{node.url.removesuffix('/dicom-web')}/stream/studies/{study}/series/{series}"
                stream = session.get(url, timeout=60)
                is_there = session.get(f"{node.url}/studies/{study}/series/{series}/instances?limit=1", timeout=60)
                # A stream without Content-Location has a part of the slices.
                is_whole = stream.status_code == 200 and "Content-Location" in stream.headers
                if not is_whole and is_there.status_code == 200 and is_there.json():
                    missing.append(f"{series}: {stream.status_code} {stream.text[:200]}")
    return missing


def feed_differences(fleet: Fleet, feed: FeedReader, rounds: int) -> list:
    """The differences between the feed of changes, which was read all the time, and all instances that there are."""
    feed.finish()
    there = {}
    with requests.Session() as session:
        for study in [study for number in range(1, rounds + 1) for study in studies(number)]:
            there[study] = set(retrieve(session, fleet.servers[0], study))
    print(f"feed: {feed.pages} pages, {sum(len(there) for there in feed.there.values())} instances", flush=True)
    return feed.differences(there)


def check_is_clean(fleet: Fleet) -> list:
    """Runs `cuspid check`. Orphans are allowed: a process leaves them that is killed between a put and its commit."""
    done = fleet.check()
    if done.returncode != 0:
        return [f"check: {done.stdout[-1000:]}{done.stderr[-1000:]}"]
    print(f"check: {done.stdout.splitlines()[-1]}, {done.stdout.count('orphan: ')} orphans", flush=True)
    return []


def play(fleet: Fleet, number: int, seed: int) -> tuple[Ledger, list]:
    """Runs one round. Returns its ledger and its faults."""
    ledger = Ledger()
    began = time.monotonic()
    kills, found = act(fleet, ledger, number, seed)
    fleet.make_all_ready()
    acknowledged = len(ledger.acknowledged)
    for node in fleet.servers:
        found += differences(node, ledger, number)
    found += store_the_rest(fleet, ledger)
    found += differences(fleet.servers[-1], ledger, number)
    found += wait_for("no preview", lambda: without_preview(fleet, number), PREVIEW_SECONDS)
    if number % CHECK_EVERY == 0:
        found += check_is_clean(fleet)
    counts = fleet.fault_counts()
    deleted = sum(deletion.is_acknowledged for deletion in ledger.deletions)
    print(
        f"round {number}: {acknowledged} acknowledged of {len(ledger.sent)} instances in "
        f"{sum(len(sends) for sends in ledger.sends.values())} sends, {deleted} deletions of {len(ledger.deletions)}, "
        f"{len(ledger.must_be_gone())} gone, {kills} kills, {sum(counts.values())} requests with "
        f"{sum(counts.values()) - counts.get('none', 0)} faults, {time.monotonic() - began:.1f} s, "
        f"{len(found)} differences",
        flush=True,
    )
    return ledger, found


def damage_is_noticed(fleet: Fleet, ledger: Ledger, number: int) -> list:
    """Changes a byte of one stored object and removes another; `check` must name both, the comparison must notice."""
    bucket, s3 = fleet.cloud.name, fleet.cloud.s3
    objects = fleet.cloud.objects("originals/")
    of = {instance: [key for key in objects if f"/{instance}-" in key] for instance in sorted(ledger.must_be_there())}
    # An object without a record is an orphan, which is allowed.
    keys = [there[0] for there in of.values() if len(there) == 1]
    if len(keys) < 2:
        return ["no stored objects to damage"]
    damaged, removed = keys[0], keys[-1]
    content = bytearray(s3.get_object(Bucket=bucket, Key=damaged)["Body"].read())
    content[-2] ^= 1
    s3.put_object(Bucket=bucket, Key=damaged, Body=bytes(content))
    s3.delete_object(Bucket=bucket, Key=removed)
    done = fleet.check()
    missed = [] if done.returncode != 0 else ["check says that all is well"]
    for kind, key in [("damaged", damaged), ("missing", removed)]:
        named = [line for line in done.stdout.splitlines() if line.startswith(f"{kind}: ")]
        if len(named) != 1 or not named[0].endswith(key.removeprefix("originals/")):
            missed.append(f"of the {kind} object check says {named}")
    # This node has none of them in its cache.
    fleet.servers[0].kill()
    fleet.servers[0].start()
    is_noticed = differences(fleet.servers[0], ledger, number)
    return missed + ([] if is_noticed else ["the comparison did not notice it"])


def run(fleet: Fleet, rounds: int, seed: int) -> Iterator[tuple[str, list]]:
    """The claims in turn, each with the faults found. Ends after the first round with a fault."""
    feed = FeedReader(fleet.servers)
    feed.start()
    ledgers = yield from play_rounds(lambda number: play(fleet, number, seed), rounds)
    if ledgers is None:
        return
    yield "the feed of changes is complete and in order", feed_differences(fleet, feed, rounds)
    late = [differences(fleet.servers[0], ledger, number) for number, ledger in ledgers.items()]
    yield "all rounds are intact at the end", sum(late, [])
    yield "check is clean at the end", check_is_clean(fleet)
    yield "damage is noticed and named", damage_is_noticed(fleet, ledgers[rounds], rounds)
    yield "nothing panics", fleet.panics()


def queue_settings(queue: str) -> list:
    """A queue of its own in SQS, or none."""
    if queue == "table":
        return []
    url = os.environ["CUSPID_TEST_SQS"].split("=", 1)[1]
    sqs = boto3.client("sqs", endpoint_url=url)
    made = sqs.create_queue(QueueName=f"cuspid-{os.getpid()}-{time.monotonic_ns()}")
    return ["jobs.queue=sqs", f"jobs.queue_url={made['QueueUrl']}", f"jobs.endpoint={url}"]


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--rounds", type=int, default=4)
    arguments.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    arguments.add_argument("--queue", choices=["table", "sqs"], default="table")
    chosen = arguments.parse_args()
    print(f"seed {chosen.seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="cuspid-fleet-") as directory:
        with Fleet(Path(directory), *queue_settings(chosen.queue)) as fleet:
            passed, failed = count(run(fleet, chosen.rounds, chosen.seed))
            if failed:
                print(fleet.logs())
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
