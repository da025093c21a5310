#!/usr/bin/env python3
"""Runs a command beside real S3, DynamoDB and SQS servers, started on free ports of loopback and ended after the command.

    tools/cloud.py [--only NAMES] COMMAND...

The command finds in its environment `CUSPID_TEST_S3` and `CUSPID_TEST_DYNAMODB` (lists, separated by spaces, of
`name=http://127.0.0.1:PORT`), `CUSPID_TEST_SQS` (one such), AWS_REGION and credentials that all accept. Its status is
that of this program. The data of the servers are deleted at the end.

| name | what it is | speaks |
|---|---|---|
| radosgw | Ceph's gateway, with signatures, conditional writes, encryption by the key `testkey-1` | S3 |
| moto | a stand-in for many services of AWS that checks no signatures | S3, SQS |
| amazon | Amazon's own DynamoDB Local | DynamoDB |
| dynoxide | another DynamoDB, over SQLite | DynamoDB |

`--only` takes names of servers or of services: `--only s3,amazon`. `tools/install.sh cloud`, `tools/venv.sh` and
`tools/cloud_install.sh` install the servers.
"""

import argparse
import asyncio
import os
import signal
import socket
import sys
import tempfile
import urllib.error
import urllib.request
from pathlib import Path

from ceph import Ceph

ROOT = Path(__file__).absolute().parent.parent
INSTALLED = ROOT / "target" / "cloud"
ACCESS_KEY, SECRET_KEY, REGION = "AKIACUSPIDTESTING", "cuspid-testing-secret", "us-east-1"
SERVICES = {"s3": ["radosgw", "moto"], "dynamodb": ["amazon", "dynoxide"], "sqs": ["moto"]}
NAMES = ["radosgw", "moto", "amazon", "dynoxide"]
READY_SECONDS = 120
# The longest time that a command may take to end after SIGTERM.
END_SECONDS = 30


class Servers:
    """The servers that were started, their processes and logs below one directory."""

    def __init__(self, directory: Path):
        self.directory = directory
        self.processes = {}
        self.ports = {}

    async def start(self, names: list) -> None:
        self.ports = dict(zip([*names, "monitor"], free_ports(len(names) + 1)))
        try:
            async with asyncio.timeout(READY_SECONDS), asyncio.TaskGroup() as tasks:
                watch = tasks.create_task(self.watch())
                await asyncio.gather(*[self.start_one(name) for name in names])
                watch.cancel()
        except Exception as failure:
            raise RuntimeError(f"{self.logs()}\nthe servers did not become ready: {failure!r}") from failure

    async def start_one(self, name: str) -> None:
        (self.directory / name).mkdir()
        await getattr(self, name)(self.ports[name])
        while not await asyncio.to_thread(answers, self.url(name)):
            await asyncio.sleep(0.05)

    async def watch(self) -> None:
        """Raises as soon as a server has ended."""
        while True:
            ended = [name for name, process in self.processes.items() if process.returncode is not None]
            if ended:
                raise RuntimeError(f"ended too early: {' '.join(ended)}")
            await asyncio.sleep(0.05)

    async def radosgw(self, port: int) -> None:
        ceph = Ceph(self.directory / "radosgw", port, self.ports["monitor"])
        await ceph.start(self.spawn, ACCESS_KEY, SECRET_KEY)

    async def moto(self, port: int) -> None:
        await self.spawn("moto", [ROOT / ".venv/bin/moto_server", "-H", "127.0.0.1", "-p", port])

    async def amazon(self, port: int) -> None:
        home = INSTALLED / "dynamodb-local"
        java = ["java", "-Xmx512m", f"-Djava.library.path={home}/DynamoDBLocal_lib", "-jar", home / "DynamoDBLocal.jar"]
        await self.spawn("amazon", [*java, "-inMemory", "-sharedDb", "-disableTelemetry", "-port", port])

    async def dynoxide(self, port: int) -> None:
        await self.spawn("dynoxide", [INSTALLED / "bin/dynoxide", "serve", "--host", "127.0.0.1", "--port", port])

    async def spawn(self, name: str, command: list) -> None:
        """Starts a process that ends with this one, even if this one is killed, and not by the terminal's Ctrl-C."""
        with open(self.directory / f"{name}.log", "wb") as log:
            self.processes[name] = await asyncio.create_subprocess_exec(
                *["setpriv", "--pdeathsig", "KILL", *map(str, command)],
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.ports[name]}"

    def environment(self) -> dict:
        added = {
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        for service, names in SERVICES.items():
            urls = [f"{name}={self.url(name)}" for name in names if name in self.processes]
            if urls:
                added[f"CUSPID_TEST_{service.upper()}"] = " ".join(urls)
        return {name: value for name, value in os.environ.items() if not name.startswith("AWS_")} | added

    def logs(self) -> str:
        """The ends of all logs."""
        texts = {path: path.read_text(errors="replace").strip() for path in sorted([*self.directory.glob("*.log"), *self.directory.glob("*/*.log")])}
        return "\n".join(f"== {path.name}\n{text[-2000:]}" for path, text in texts.items() if text)

    async def stop(self) -> None:
        for process in self.processes.values():
            if process.returncode is None:
                process.kill()
        await asyncio.gather(*[process.wait() for process in self.processes.values()])


def free_ports(count: int) -> list:
    probes = [socket.socket() for _ in range(count)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


def answers(url: str) -> bool:
    """Whether an HTTP server answers, with any status."""
    try:
        urllib.request.urlopen(url, timeout=5).close()
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True


async def run(command: list, environment: dict, stop: asyncio.Event) -> int:
    """Runs the command to its end, or ends it when `stop` is set."""
    process = await asyncio.create_subprocess_exec(*command, env=environment)
    ended, stopped = asyncio.create_task(process.wait()), asyncio.create_task(stop.wait())
    await asyncio.wait([ended, stopped], return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    if process.returncode is None:
        process.terminate()
        try:
            await asyncio.wait_for(asyncio.shield(ended), END_SECONDS)
        except asyncio.TimeoutError:
            process.kill()
    status = await ended
    # The status by which a shell reports a signal.
    return status if status >= 0 else 128 - status


async def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--only", default=",".join(NAMES), help="servers or services, separated by commas")
    arguments.add_argument("command", nargs=argparse.REMAINDER)
    chosen = arguments.parse_args()
    wanted = {name for word in chosen.only.split(",") for name in SERVICES.get(word, [word])}
    if not chosen.command or not wanted <= set(NAMES):
        arguments.error("a command is needed, and names of servers" if not chosen.command else f"names are {NAMES}")
    stop = asyncio.Event()
    for number in [signal.SIGTERM, signal.SIGINT]:
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    with tempfile.TemporaryDirectory(prefix="cuspid-cloud-", ignore_cleanup_errors=True) as directory:
        servers = Servers(Path(directory))
        try:
            started = asyncio.create_task(servers.start(sorted(wanted)))
            await asyncio.wait([started, asyncio.create_task(stop.wait())], return_when=asyncio.FIRST_COMPLETED)
            if not started.done():
                started.cancel()
                return 128 + signal.SIGTERM
            started.result()
            return await run(chosen.command, servers.environment(), stop)
        except (RuntimeError, OSError) as failure:
            print(f"tools/cloud.py: {failure}", file=sys.stderr)
            return 1
        finally:
            await servers.stop()


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
