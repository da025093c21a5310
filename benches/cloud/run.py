#!/usr/bin/env python3
"""Ingest and retrieval of a series over S3 and DynamoDB, beside what a bare S3 client moves on as many connections.

    make cloud-bench

Slices of a CT of 512 x 512 (525 kB each). The servers are local; proxies delay each request as a region of Amazon's would: 20 ms
to S3, 5 ms to DynamoDB. The bare client puts and gets the same files as objects, and does nothing else. The two take turns, so
that what else the machine does hits both. Prints the medians and their ratios.
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

ROOT = Path(__file__).absolute().parent.parent.parent
for place in ["conformance", "benches/versus"]:
    sys.path.insert(0, str(ROOT / place))

import data  # noqa: E402
from cuspid_cloud import Cloud, endpoint  # noqa: E402
from cuspid_server import AE_TITLE, Server, binary  # noqa: E402

WORK = ROOT / "target" / "versus"
ACCEPT = 'multipart/related; type="application/dicom"; transfer-syntax=*'
PER_REQUEST = 50
# What is read comes from S3, and nothing else is done.
SETTINGS = ["s3.cache_max_bytes=0", "preview.enabled=false", "log.filter=warn"]
GOAL = 0.7


def report(*command) -> float:
    """Runs a load client; the megabytes that it moved in a second."""
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{command}: {done.stderr[-500:]}")
    said = json.loads(done.stdout)
    return said["bytes"] / 1e6 / said["seconds"]


@contextlib.contextmanager
def delayed(load: Path, url: str, milliseconds: int):
    """The URL of a proxy before a server, or of the server itself without a delay."""
    if milliseconds == 0:
        yield url
        return
    upstream = url.removeprefix("http://")
    with subprocess.Popen([load, "delay", upstream, str(milliseconds)], stdout=subprocess.PIPE, text=True) as proxy:
        try:
            yield f"http://127.0.0.1:{int(proxy.stdout.readline())}"
        finally:
            proxy.kill()


class Bench:
    def __init__(self, chosen: argparse.Namespace, files: Path, s3: str):
        self.chosen, self.files, self.s3 = chosen, files, s3

    def bare(self, connections: int) -> dict:
        """Sends and reads the files as objects of a bucket of their own."""
        bucket = Cloud(binary()).name
        move = lambda what: report(self.chosen.client, what, self.s3, bucket, connections, self.files)
        return {what: move(what) for what in ["put", "get"]}

    def cuspid(self, name: str, dynamodb: str, connections: int) -> dict:
        """Stores over so many connections, by STOW-RS and by C-STORE, and retrieves the series over as many at the same time."""
        figures, load = {}, self.chosen.load
        with self.server(name, dynamodb) as (server, directory):
            per_request = min(PER_REQUEST, self.chosen.slices)
            figures["STOW-RS"] = report(load, "stow", f"{server.url}/studies", connections, per_request, self.files)
            paths = directory / "paths"
            paths.write_text(f"/dicom-web/studies/{data.STUDY}/series/{data.SERIES}\n")
            address = f"127.0.0.1:{server.http_port}"
            figures["retrieval"] = report(load, "get", address, connections, connections, ACCEPT, "identity", paths)
        with self.server(name, dynamodb) as (server, _):
            address = f"127.0.0.1:{server.dimse_port}"
            figures["C-STORE"] = report(load, "c-store", address, AE_TITLE, connections, self.files)
        return figures

    @contextlib.contextmanager
    def server(self, name: str, dynamodb: str):
        with tempfile.TemporaryDirectory(prefix="cuspid-bench-") as directory:
            cloud = Cloud(binary(), self.s3, dynamodb, name)
            server = Server(Path(directory), *cloud.settings, *SETTINGS, *self.chosen.set).start()
            try:
                yield server, Path(directory)
            finally:
                server.kill()


def rows(limits: dict, figures: dict, connections: int) -> list:
    """The rows of a table: the work, the bare client, Cuspid."""
    of = "1 connection" if connections == 1 else f"{connections} connections"
    return [
        (f"ingest by STOW-RS, {of}", limits["put"], figures["STOW-RS"]),
        (f"ingest by C-STORE, {of.replace('connection', 'association')}", limits["put"], figures["C-STORE"]),
        (f"a whole series on each of {of}" if connections > 1 else f"a whole series, {of}", limits["get"], figures["retrieval"]),
    ]


def medians(runs: list) -> dict:
    return {name: median(run[name] for run in runs) for name in runs[0]}


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--client", type=Path, default=ROOT / "target/release/examples/bare-s3")
    arguments.add_argument("--load", type=Path, default=ROOT / "target/release/examples/versus-load")
    arguments.add_argument("--connections", type=int, nargs="+", default=[1, 8])
    arguments.add_argument("--repeats", type=int, default=3)
    arguments.add_argument("--slices", type=int, default=data.SLICES)
    arguments.add_argument("--s3-delay", type=int, default=20, help="milliseconds")
    arguments.add_argument("--dynamodb-delay", type=int, default=5, help="milliseconds")
    arguments.add_argument("--dynamodb", nargs="+", default=["amazon", "dynoxide"], help="servers")
    arguments.add_argument("--set", action="append", default=[], help="a setting of Cuspid")
    chosen = arguments.parse_args()
    ct = WORK / "data" / "ct"
    if not ct.exists():
        data.make_ct(ct)
    results = []
    with contextlib.ExitStack() as stack:
        files = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cuspid-bench-", dir=WORK)))
        for file in sorted(ct.iterdir())[: chosen.slices]:
            os.link(file, files / file.name)
        bench = Bench(chosen, files, stack.enter_context(delayed(chosen.load, endpoint("s3"), chosen.s3_delay)))
        delayed_table = lambda name: delayed(chosen.load, endpoint("dynamodb", name), chosen.dynamodb_delay)
        tables = {name: stack.enter_context(delayed_table(name)) for name in chosen.dynamodb}
        for connections in chosen.connections:
            limits, figures = [], {name: [] for name in tables}
            for _ in range(chosen.repeats):
                limits.append(bench.bare(connections))
                for name, url in tables.items():
                    figures[name].append(bench.cuspid(name, url, connections))
            for name, runs in figures.items():
                results += [(name, *row) for row in rows(medians(limits), medians(runs), connections)]
    print(f"S3 {chosen.s3_delay} ms away, DynamoDB {chosen.dynamodb_delay} ms")
    print("| DynamoDB | work | bare client, MB/s | Cuspid, MB/s | of the bare client |\n|---|---|---|---|---|")
    for name, work, limit, figure in results:
        print(f"| {name} | {work} | {limit:.1f} | {figure:.1f} | {figure / limit:.2f} |")
    return 0 if all(figure >= GOAL * limit for _, _, limit, figure in results) else 1


if __name__ == "__main__":
    sys.exit(main())
