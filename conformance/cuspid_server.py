"""A Cuspid server process on a directory and on free ports of loopback, for black-box tests.

With `CUSPID_TEST_ENGINE=cloud` the data are in S3 and DynamoDB (see `tools/cloud.py`), and only scratch files in the directory.
"""

import os
import signal
import socket
import subprocess
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).parent.parent
AE_TITLE = "CUSPID"


def binary() -> Path:
    """The server to test: `CUSPID_BINARY`, or the release build."""
    return Path(os.environ.get("CUSPID_BINARY", ROOT / "target" / "release" / "cuspid")).absolute()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def engine_settings() -> list:
    """Settings of an empty engine; none for the embedded engine, which is in the data directory."""
    if os.environ.get("CUSPID_TEST_ENGINE") != "cloud":
        return []
    # This module imports boto3, which tests of other servers do not need.
    from cuspid_cloud import Cloud

    return Cloud(binary()).settings


class Server:
    """A server process. `start` starts it, `stop` and `kill` end it; `start` again uses the same data and ports."""

    ready_path = "/readyz"

    def __init__(self, directory: Path, *settings: str):
        self.directory, self.settings = directory, [*engine_settings(), *settings]
        self.http_port, self.dimse_port = free_port(), free_port()
        self.url = f"http://127.0.0.1:{self.http_port}/dicom-web"
        self.data = directory / "data"
        self.process = None
        self.starts = 0

    def start(self) -> "Server":
        self.launch()
        self.starts += 1
        self.wait_until_ready()
        return self

    def launch(self) -> None:
        """Starts the process without waiting until the server is ready."""
        command = [binary(), "serve", "--data", self.data]
        command += ["--http", f"127.0.0.1:{self.http_port}", "--dimse", f"127.0.0.1:{self.dimse_port}"]
        command += self.arguments()
        self.run(command)

    def run(self, command: list) -> None:
        with open(self.directory / "log", "a") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                break
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{self.http_port}{self.ready_path}", timeout=5).close()
                return
            except OSError:
                time.sleep(0.005)
        raise RuntimeError("the server did not become ready:\n" + self.log()[-2000:])

    def has_ended(self) -> bool:
        return self.process.poll() is not None

    def log(self) -> str:
        return (self.directory / "log").read_text()

    def stop(self) -> int:
        return self.end(signal.SIGTERM)

    def kill(self) -> int:
        return self.end(signal.SIGKILL)

    def end(self, how: signal.Signals) -> int:
        if self.process.poll() is None:
            self.process.send_signal(how)
        try:
            return self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise

    def arguments(self) -> list:
        """The settings as arguments, which every command accepts."""
        return [argument for setting in self.settings for argument in ("--set", setting)]

    def check(self, *options: str) -> subprocess.CompletedProcess:
        """Runs `cuspid check` on the data. With the embedded engine the server must have ended."""
        return self.command("check", *options)

    def reindex(self) -> subprocess.CompletedProcess:
        """Runs `cuspid reindex` on the data; the server must have ended."""
        return self.command("reindex")

    def command(self, name: str, *options: str) -> subprocess.CompletedProcess:
        command = [binary(), name, "--data", self.data, *self.arguments(), *options]
        return subprocess.run(command, capture_output=True, text=True)
