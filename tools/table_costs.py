#!/usr/bin/env python3
"""Prints the costs of the server's operations in DynamoDB, in requests and units, as a Markdown table.

    tools/cloud.py --only dynoxide .venv/bin/python tools/table_costs.py

starts a server with objects in files and the index in a table of its own, makes the requests of viewers and modalities, and
reads the counters at /metrics before and after. It uses dynoxide: DynamoDB Local reports only one item of a transaction.
CUSPID_BINARY names the server [default: target/debug/cuspid].
"""

import io
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
import uuid
from pathlib import Path

import pydicom
from pydicom.data import get_testdata_file
from pydicom.uid import generate_uid

BINARY = os.environ.get("CUSPID_BINARY", "target/debug/cuspid")
LIST, SERIES = 25, 400
READY_SECONDS, PREVIEW_SECONDS = 30, 120


class Server:
    """A server with a new table."""

    def __init__(self, directory: str, *settings: str):
        servers = dict(server.split("=", 1) for server in os.environ["CUSPID_TEST_DYNAMODB"].split())
        chosen = {"storage.table": "dynamodb", "dynamodb.endpoint": servers["dynoxide"]}
        # The scrub reads rows at times of its own.
        chosen |= {"dynamodb.table": f"costs-{uuid.uuid4()}", "scrub.interval_days": "0"}
        chosen |= dict(setting.split("=", 1) for setting in settings)
        options = ["--data", directory, *[word for item in chosen.items() for word in ("--set", "=".join(item))]]
        subprocess.run([BINARY, "table", "create", *options], check=True, stdout=subprocess.DEVNULL)
        log = open(Path(directory) / "log", "wb")
        self.process = subprocess.Popen(
            [BINARY, "serve", "--http", "127.0.0.1:0", "--dimse", "", *options], stderr=log, stdout=log
        )
        deadline = time.monotonic() + READY_SECONDS
        while not (found := re.search(r"HTTP on (http://[^/]+)/", (Path(directory) / "log").read_text())):
            assert time.monotonic() < deadline and self.process.poll() is None, "the server does not start"
            time.sleep(0.05)
        self.url = found[1]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()

    def get(self, path: str) -> bytes:
        with urllib.request.urlopen(self.url + path) as answer:
            return answer.read()

    def store(self, instances: list) -> None:
        parts = [b"--edge\r\nContent-Type: application/dicom\r\n\r\n" + data + b"\r\n" for data in instances]
        request = urllib.request.Request(self.url + "/dicom-web/studies", b"".join(parts) + b"--edge--\r\n")
        request.add_header("Content-Type", 'multipart/related; type="application/dicom"; boundary=edge')
        with urllib.request.urlopen(request) as answer:
            assert answer.status == 200, answer.status

    def counters(self) -> dict:
        lines = re.findall(r"^(cuspid_\S+) (\d+)$", self.get("/metrics").decode(), re.MULTILINE)
        return {name: int(value) for name, value in lines}


def series(count: int) -> tuple:
    """Instances of a series of its own, and the path of the series and of its last instance."""
    data = pydicom.dcmread(get_testdata_file("CT_small.dcm"))
    data.StudyInstanceUID, data.SeriesInstanceUID = generate_uid(), generate_uid()
    data.PatientID, data.AccessionNumber = str(uuid.uuid4())[:8], str(uuid.uuid4())[:8]
    instances = []
    for number in range(1, count + 1):
        data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        data.InstanceNumber, data.SliceLocation = number, number
        data.ImagePositionPatient = [0, 0, number]
        file = io.BytesIO()
        data.save_as(file)
        instances.append(file.getvalue())
    path = f"/dicom-web/studies/{data.StudyInstanceUID}/series/{data.SeriesInstanceUID}"
    return instances, path, f"{path}/instances/{data.SOPInstanceUID}"


def cost(server: Server, what: str, work) -> None:
    """Carries out an operation and prints its row."""
    before = server.counters()
    work()
    after = server.counters()
    changed = {name: after[name] - before.get(name, 0) for name in after if after[name] != before.get(name, 0)}
    requests = {}
    for name, count in changed.items():
        if found := re.match(r'cuspid_table_requests_total\{operation="(\w+)"\}', name):
            requests[found[1]] = count
    units = {
        kind: sum(count for name, count in changed.items() if "table_units" in name and f'kind="{kind}"' in name)
        for kind in ("read", "write")
    }
    counts = ", ".join(f"{count} {name}" for name, count in sorted(requests.items()))
    print(f"| {what} | {counts} | {units['read']} | {units['write']} |", flush=True)


def await_preview(server: Server) -> None:
    deadline = time.monotonic() + PREVIEW_SECONDS
    while not server.counters().get('cuspid_previews_total{outcome="made"}'):
        assert time.monotonic() < deadline, "the preview is not made"
        time.sleep(0.1)


def main() -> int:
    print("| what | requests | read units | write units |\n|---|---|--:|--:|")
    with tempfile.TemporaryDirectory() as directory, Server(directory, "preview.enabled=false") as server:
        # The first instance of all writes the tenant's own row, too.
        server.store(series(1)[0])
        instances, path, last = series(2)
        cost(server, "store an instance, the first of its study", lambda: server.store(instances[:1]))
        cost(server, "store another instance of it", lambda: server.store(instances[1:]))
        cost(server, "store it again", lambda: server.store(instances[1:]))
        instances, path, last = series(SERIES)
        cost(server, f"store {SERIES} instances in one request", lambda: server.store(instances))
        for _ in range(LIST):
            server.store(series(1)[0])
        cost(server, f"list of {LIST} studies", lambda: server.get(f"/dicom-web/studies?limit={LIST}"))
        cost(server, f"metadata of a series of {SERIES}", lambda: server.get(f"{path}/metadata"))
        cost(server, "metadata of an instance", lambda: server.get(f"{last}/metadata"))
        cost(server, "frame", lambda: server.get(f"{last}/frames/1"))
        cost(server, "whole instance", lambda: server.get(last))
        cost(server, "thumbnail of a series, made", lambda: server.get(f"{path}/thumbnail"))
        cost(server, "thumbnail of a series, kept", lambda: server.get(f"{path}/thumbnail"))
    with tempfile.TemporaryDirectory() as directory, Server(directory, "preview.quiet_seconds=1") as server:
        instances, path, last = series(SERIES)
        server.store(instances)
        cost(server, f"preview of a series of {SERIES}", lambda: await_preview(server))
    return 0


if __name__ == "__main__":
    sys.exit(main())
