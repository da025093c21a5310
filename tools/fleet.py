"""A fleet of nodes and workers that reach one S3 and one DynamoDB through proxies that make faults."""

import contextlib
import subprocess
import sys
import time
from pathlib import Path

import faults
from fault_proxy import FaultProxy

sys.path.insert(0, str(Path(__file__).parent.parent / "conformance"))

from cuspid_cloud import Cloud, endpoint  # noqa: E402
from cuspid_server import Server, binary  # noqa: E402

SERVERS, WORKERS = 3, 2
# Shorter than the delays of the proxies, and than the time-outs of clients.
SETTINGS = [
    "log.filter=warn",
    "preview.quiet_seconds=0",
    "preview.retry_seconds=1",
    "preview.max_attempts=20",
    "preview.threads=1",
    "jobs.in_server=false",
    "jobs.lease_seconds=3",
    "jobs.reconcile_seconds=2",
    "dynamodb.request_timeout_seconds=2",
    "dynamodb.retry_seconds=5",
    "s3.read_timeout_seconds=2",
    "s3.upload_timeout_seconds=3",
    "s3.operation_timeout_seconds=8",
]
LONGEST_DELAY_SECONDS = 5


class Worker(Server):
    """A `cuspid worker` process. It has no ports, and is ready as soon as it runs."""

    def launch(self) -> None:
        self.run([binary(), "worker", "--data", self.data, *self.arguments()])

    def wait_until_ready(self) -> None:
        if self.has_ended():
            raise RuntimeError("the worker ended:\n" + self.log()[-2000:])


class Fleet:
    """A fleet as a context manager. `nodes` are all processes that may be killed, workers included."""

    def __init__(self, directory: Path, *settings: str, servers: int = SERVERS, workers: int = WORKERS):
        self.directory, self.settings = directory, settings
        self.counts = {Server: servers, Worker: workers}
        self.stack = contextlib.ExitStack()

    def __enter__(self) -> "Fleet":
        with contextlib.ExitStack() as stack:
            self.s3 = stack.enter_context(FaultProxy("s3", endpoint("s3", "radosgw")))
            self.dynamodb = stack.enter_context(FaultProxy("dynamodb", endpoint("dynamodb", "amazon")))
            self.cloud = Cloud(binary(), self.s3.url, self.dynamodb.url)
            self.servers, self.workers = self.make(Server, "server"), self.make(Worker, "worker")
            stack.callback(self.kill_all)
            for node in self.nodes:
                node.start()
            self.stack = stack.pop_all()
        return self

    def __exit__(self, *exception) -> None:
        self.stack.__exit__(*exception)

    def make(self, kind: type, name: str) -> list:
        directories = [self.directory / f"{name}-{number + 1}" for number in range(self.counts[kind])]
        for directory in directories:
            directory.mkdir()
        return [kind(directory, *self.cloud.settings, *SETTINGS, *self.settings) for directory in directories]

    @property
    def nodes(self) -> list:
        return [*self.servers, *self.workers]

    def kill_all(self) -> None:
        for node in self.nodes:
            if node.process:
                node.kill()

    def plan(self, plan) -> None:
        for proxy in [self.s3, self.dynamodb]:
            proxy.plan = plan

    def make_faults(self, seed: str, share: float) -> None:
        for proxy in [self.s3, self.dynamodb]:
            proxy.plan = faults.Random(f"{seed}-{proxy.service}", share, LONGEST_DELAY_SECONDS)

    def end_faults(self) -> None:
        """Ends all faults, and waits until the requests of killed nodes are carried out, too."""
        self.plan(lambda _request: None)
        for proxy in [self.s3, self.dynamodb]:
            proxy.wait_until_idle()

    def make_all_ready(self) -> None:
        """Waits until all nodes are ready, after faults have ended; starts nodes again whose start failed beside faults."""
        for node in self.nodes:
            try:
                node.wait_until_ready()
            except RuntimeError:
                node.kill()
                node.start()

    def fault_counts(self) -> dict:
        """The numbers of requests by fault since the last call, and of requests without a fault."""
        counts = {}
        for request in [*self.s3.take_requests(), *self.dynamodb.take_requests()]:
            kind = request.fault.kind if request.fault else "none"
            counts[kind] = counts.get(kind, 0) + 1
        return counts

    def check(self, *options: str) -> subprocess.CompletedProcess:
        """Runs `cuspid check` beside the nodes, with scratch of its own."""
        command = [binary(), "check", "--data", self.directory / "check", *self.servers[0].arguments(), *options]
        (self.directory / "check").mkdir(exist_ok=True)
        return subprocess.run(command, capture_output=True, text=True)

    def logs(self) -> str:
        return "\n".join(f"== {node.directory.name}\n{node.log()[-3000:]}" for node in self.nodes)

    def panics(self) -> list:
        return [f"{node.directory.name}: {node.log()[-2000:]}" for node in self.nodes if "panicked" in node.log()]


def wait_for(what: str, is_so, seconds: float) -> list:
    """Polls until `is_so` returns nothing. Returns a text that names what is left after the time-out, if anything."""
    deadline = time.monotonic() + seconds
    while True:
        left = is_so()
        if not left:
            return []
        if time.monotonic() > deadline:
            return [f"{what}: {each}" for each in left]
        time.sleep(0.1)
