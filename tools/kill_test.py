#!/usr/bin/env python3
"""Kills the server in the middle of parallel ingest, again and again, and looks whether it kept its word.

    tools/kill_test.py BINARY [ROUNDS] [SEED]

In each round clients store by STOW-RS and C-STORE until the server is killed (SIGKILL) at a random moment; some rounds
kill it once more while it starts. Then every instance that was acknowledged must be there, byte for byte, and every
instance that can be found must be retrievable, and counts must be exact. Every ten rounds `cuspid check` reads all of it.
At the end the test proves that it can fail: a damaged and a missing object must be named.
"""

import functools
import hashlib
import http.client
import io
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE

ROUNDS_A_DIRECTORY = 10
CT = "1.2.840.10008.5.1.4.1.1.2"


@functools.cache
def instance(number: int) -> Dataset:
    """A small image; ten studies of two series receive them in turn, so that all clients share all studies."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID = CT
    study = f"1.2.826.0.1.3680043.10.1.{number % 10}"
    ds.StudyInstanceUID = study
    ds.SeriesInstanceUID = f"{study}.{number % 2}"
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID = f"{study}.{number % 2}.{number}"
    ds.PatientName, ds.PatientID, ds.StudyDate, ds.StudyTime = "Kill^Test", f"K{number % 10}", "20260101", "120000"
    ds.Modality, ds.InstanceNumber = "CT", number
    ds.Rows, ds.Columns = (16, 128) if number % 7 else (400, 400)
    ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PixelRepresentation = 1, "MONOCHROME2", 0
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 16, 16, 15
    size = ds.Rows * ds.Columns * 2
    ds.PixelData = (hashlib.sha256(str(number).encode()).digest() * (size // 32 + 1))[:size]
    return ds


@functools.cache
def part10(number: int) -> bytes:
    buffer = io.BytesIO()
    instance(number).save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


class Server:
    """A server process on a data directory."""

    def __init__(self, binary: str, data: Path):
        self.binary, self.data, self.process = binary, data, None
        self.http, self.dimse = free_port(), free_port()

    def spawn(self) -> None:
        # Previews start at once, so that they, too, are interrupted.
        command = [self.binary, "serve", "--data", self.data, "--http", f"127.0.0.1:{self.http}",
                   "--dimse", f"127.0.0.1:{self.dimse}", "--set", "preview.quiet_seconds=0", "--set", "log.filter=error"]
        self.process = subprocess.Popen(command)

    def start(self) -> None:
        self.spawn()
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                if self.get("/readyz")[0] == 200:
                    return
            except OSError:
                time.sleep(0.01)
        sys.exit("the server did not become ready")

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        self.process.terminate()
        if self.process.wait(timeout=40) != 0:
            sys.exit("the server did not stop cleanly")

    def get(self, path: str, accept: str = "*/*") -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.http, timeout=20)
        try:
            connection.request("GET", path, headers={"Accept": accept})
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def search(self, path: str) -> list:
        status, body = self.get(f"/dicom-web{path}", "application/dicom+json")
        assert status == 200, (path, status, body[:200])
        return json.loads(body)

    def run(self, *arguments: str) -> subprocess.CompletedProcess:
        command = [self.binary, *arguments, "--data", str(self.data), "--set", "log.filter=error"]
        return subprocess.run(command, capture_output=True, text=True, check=False)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Clients:
    """Clients that store until the server goes away, and remember what it acknowledged."""

    def __init__(self, server: Server, first: int):
        self.server, self.next, self.lock = server, first, threading.Lock()
        self.acknowledged: dict[int, str] = {}
        ways = [self.stow, self.stow, self.stow, self.c_store, self.c_store]
        self.threads = [threading.Thread(target=self.guard, args=(way,), daemon=True) for way in ways]
        for thread in self.threads:
            thread.start()

    def take(self) -> int:
        with self.lock:
            self.next += 1
            return self.next

    def guard(self, client) -> None:
        try:
            client()
        except (OSError, http.client.HTTPException, RuntimeError, ValueError):
            pass  # The server was killed.

    def stow(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.server.http, timeout=20)
        while True:
            numbers = [self.take() for _ in range(random.choice([1, 1, 5]))]
            parts = b"".join(b"\r\n--B\r\nContent-Type: application/dicom\r\n\r\n" + part10(number) for number in numbers)
            content_type = 'multipart/related; type="application/dicom"; boundary=B'
            connection.request("POST", "/dicom-web/studies", parts + b"\r\n--B--", {"Content-Type": content_type})
            response = connection.getresponse()
            body = response.read()
            assert response.status == 200, (response.status, body)
            self.acknowledged.update({number: "stow" for number in numbers})

    def c_store(self) -> None:
        ae = AE("KILLER")
        ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = 5
        ae.add_requested_context(CT, ExplicitVRLittleEndian)
        association = ae.associate("127.0.0.1", self.server.dimse)
        while association.is_established:
            number = self.take()
            status = association.send_c_store(instance(number))
            if status and status.Status == 0:
                self.acknowledged[number] = "c-store"

    def join(self) -> None:
        for thread in self.threads:
            thread.join(timeout=30)


def verify(server: Server, acknowledged: dict[int, str]) -> list[str]:
    """What is not as it was promised."""
    wrong = []
    for number, way in acknowledged.items():
        sent = instance(number)
        path = (f"/dicom-web/studies/{sent.StudyInstanceUID}/series/{sent.SeriesInstanceUID}"
                f"/instances/{sent.SOPInstanceUID}")
        status, body = server.get(path, "application/dicom; transfer-syntax=*")
        if status != 200:
            wrong.append(f"{number} by {way} was acknowledged and is not there: {status}")
        elif way == "stow" and body != part10(number):
            wrong.append(f"{number} by {way} is not what was sent")
        elif way == "c-store" and dcmread(io.BytesIO(body)) != dcmread(io.BytesIO(part10(number))):
            wrong.append(f"{number} by {way} is not what was sent")
    for study in server.search("/studies?limit=1000"):
        uid = study["0020000D"]["Value"][0]
        instances = server.search(f"/studies/{uid}/instances?limit=100000")
        series = server.search(f"/studies/{uid}/series?limit=1000")
        counts = study["00201208"]["Value"][0], study["00201206"]["Value"][0]
        if counts != (len(instances), len(series)):
            wrong.append(f"study {uid} counts {counts}, has {len(instances)} instances in {len(series)} series")
        if sum(one["00201209"]["Value"][0] for one in series) != len(instances):
            wrong.append(f"the series of study {uid} do not count its instances")
    return wrong


def everything(server: Server) -> list:
    return [server.search(f"/{level}?limit=100000") for level in ("studies", "series", "instances")]


def can_fail(server: Server) -> list[str]:
    """Damages one object, removes another, and expects `check` to name both and nothing else."""
    originals = sorted((server.data / "originals").rglob("*.dcm"))
    damaged, missing = originals[0], originals[-1]
    content = bytearray(damaged.read_bytes())
    content[-1] ^= 1
    damaged.write_bytes(content)
    missing.unlink()
    check = server.run("check")
    named = check.stdout.splitlines()
    expected = [f"damaged: {damaged.relative_to(server.data)}", f"missing: {missing.relative_to(server.data)}"]
    if check.returncode == 0 or any(line not in named for line in expected):
        return [f"check did not name a damaged and a missing object: {check.stdout}"]
    return []


def rounds(binary: str, data: Path, count: int) -> tuple[int, list[str]]:
    """Kills in a fresh data directory; returns how many instances were acknowledged and what was wrong."""
    server, acknowledged, wrong, number = Server(binary, data), {}, [], 0
    server.start()
    for _ in range(count):
        clients = Clients(server, number)
        time.sleep(random.uniform(0.02, 0.6))
        server.kill()
        clients.join()
        number = clients.next
        if random.random() < 0.3:
            server.spawn()
            time.sleep(random.uniform(0, 0.1))
            server.kill()
        server.start()
        wrong += verify(server, clients.acknowledged)
        acknowledged |= clients.acknowledged
    wrong += verify(server, acknowledged)
    before = everything(server)
    server.stop()
    check = server.run("check")
    findings = [line for line in check.stdout.splitlines() if line.split(":")[0] in ("missing", "damaged", "wrong count")]
    wrong += [f"check: {finding}" for finding in findings]
    repair = server.run("check", "--repair")
    again = server.run("check")
    if repair.returncode or again.returncode:
        wrong.append(f"check is not clean after a repair: {again.stdout}{again.stderr}")
    reindex = server.run("reindex")
    server.start()
    if reindex.returncode or everything(server) != before:
        wrong.append(f"reindex made another index: {reindex.stdout}{reindex.stderr}")
    server.stop()
    return len(acknowledged), wrong + can_fail(server)


def main() -> None:
    binary = os.path.abspath(sys.argv[1])
    count = int(sys.argv[2]) if len(sys.argv) > 2 else 50
    seed = int(sys.argv[3]) if len(sys.argv) > 3 else random.randrange(1 << 32)
    print(f"kill test: {count} rounds, seed {seed}", flush=True)
    random.seed(seed)
    passed = failed = 0
    while passed + failed < count:
        data = Path(tempfile.mkdtemp(prefix="cuspid-kill-"))
        batch = min(ROUNDS_A_DIRECTORY, count - passed - failed)
        acknowledged, wrong = rounds(binary, data, batch)
        for line in wrong:
            print(line)
        if acknowledged == 0:
            wrong.append("nothing was acknowledged: the test has tested nothing")
        print(f"{batch} rounds, {acknowledged} instances acknowledged, {len(wrong)} faults", flush=True)
        passed, failed = (passed + batch, failed) if not wrong else (passed, failed + batch)
        if not wrong:
            shutil.rmtree(data)
    print(f"{passed} passed, {failed} failed")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
