"""The systems that are compared: how each is started, asked and measured. All listen on loopback, on free ports."""

import contextlib
import json
import os
import socket
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path

from disk import Disk

ROOT = Path(__file__).parent.parent.parent
TICKS = os.sysconf("SC_CLK_TCK")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class System:
    """A server process on an empty directory; a context manager that ends it by its process id."""

    name = ""
    base = "/dicom-web"
    ae_title = "VERSUS"
    ready_path = "/"

    def __init__(self, disk: Disk):
        self.disk = disk
        self.directory = Path(tempfile.mkdtemp(prefix=f"{self.name}-", dir=disk.directory)).absolute()
        self.http, self.dimse = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
        self.process = None

    def command(self) -> list:
        raise NotImplementedError

    def start(self) -> float:
        """Starts it; the seconds until it answers."""
        command = self.command()
        begin = time.perf_counter()
        with open(self.directory / "log", "a") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self.directory)
        while True:
            if self.process.poll() is not None:
                raise RuntimeError(f"{self.name} ended: " + (self.directory / "log").read_text()[-2000:])
            try:
                urllib.request.urlopen(f"http://{self.http}{self.ready_path}", timeout=5).close()
                return time.perf_counter() - begin
            except OSError:
                if time.perf_counter() - begin > 60:
                    raise
                time.sleep(0.002)

    def stop(self) -> None:
        if self.process and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def __enter__(self):
        self.started_in = self.start()
        return self

    def __exit__(self, *_):
        self.stop()
        # On a disk of a fixed size, the next systems need the space. The files stay until all is done: after deletions, some
        # file systems are slower for minutes.
        if self.disk.device:
            for file in self.directory.rglob("*"):
                if file.is_file():
                    os.truncate(file, 0)
        # The next system must not wait for what this one left to be written.
        os.sync()

    def cpu_seconds(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return sum(map(int, fields[11:15])) / TICKS

    def counters(self) -> tuple:
        """What the server has used so far: CPU seconds, changes of threads; and of the disk: flushes, bytes written.

        Changes of threads that have ended are not counted.
        """
        return self.cpu_seconds(), self.switches(), *self.disk.counters()

    def switches(self) -> int:
        total = 0
        for task in Path(f"/proc/{self.process.pid}/task").iterdir():
            # A thread may end in between.
            with contextlib.suppress(OSError):
                lines = (task / "status").read_text().splitlines()
                total += sum(int(line.split()[1]) for line in lines if "voluntary_ctxt_switches" in line)
        return total

    def memory(self, field: str) -> float:
        """MB of `VmRSS` (now) or `VmHWM` (the peak since `forget_peak`)."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith(field):
                return int(line.split()[1]) / 1000
        raise RuntimeError(f"{self.name} has no {field}")

    def forget_peak(self) -> None:
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")

    def settle(self) -> None:
        """Waits until it has done what it does on its own after ingest: two seconds with next to no CPU time."""
        calm, before = 0, self.cpu_seconds()
        while calm < 4:
            time.sleep(0.5)
            now = self.cpu_seconds()
            calm = calm + 1 if now - before <= 0.02 else 0
            before = now


class Cuspid(System):
    name = "cuspid"
    ae_title = "CUSPID"
    ready_path = "/readyz"
    binary = "target/release/cuspid"

    def command(self):
        binary = os.path.abspath(self.binary)
        data = self.directory / "data"
        return [binary, "serve", "--data", data, "--http", self.http, "--dimse", self.dimse]

    def settle(self):
        # Previews wait for a series to be quiet for five seconds.
        time.sleep(6)
        super().settle()


class Orthanc(System):
    """Orthanc 1.12.7, as Debian 13 has it."""

    name = "orthanc"
    ready_path = "/system"
    program = str(ROOT / "tools" / "orthanc.sh")
    plugins = "/usr/share/orthanc/plugins/libOrthancDicomWeb.so"

    def command(self):
        settings = {
            "Name": "versus",
            "StorageDirectory": "storage",
            "IndexDirectory": "storage",
            "Plugins": [self.plugins],
            "SyncStorageArea": True,
            "StorageCompression": False,
            "HttpPort": int(self.http.split(":")[1]),
            "HttpThreadsCount": 50,
            "KeepAlive": True,
            "TcpNoDelay": True,
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False,
            "DicomAet": self.ae_title,
            "DicomPort": int(self.dimse.split(":")[1]),
            "DicomCheckCalledAet": False,
            "DicomAlwaysAllowStore": True,
            "DicomWeb": {"Enable": True, "Root": "/dicom-web/", "EnableWado": False},
        }
        path = self.directory / "orthanc.json"
        path.write_text(json.dumps(settings, indent=1))
        return [self.program, path]


class OldOrthanc(Orthanc):
    """Orthanc 1.10.1, as Debian 12 has it."""

    name = "orthanc-1.10"
    program = "/usr/sbin/Orthanc"


class Nginx(System):
    """The limit of reading: the same bytes as files, one worker a core."""

    name = "nginx"

    def command(self):
        (self.directory / "root").mkdir(exist_ok=True)
        path = self.directory / "nginx.conf"
        path.write_text(f"""
daemon off; user root; worker_processes auto; pid {self.directory}/pid; error_log {self.directory}/error.log;
events {{ worker_connections 1024; }}
http {{
  access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000;
  client_body_temp_path {self.directory}/b; proxy_temp_path {self.directory}/p; fastcgi_temp_path {self.directory}/f;
  uwsgi_temp_path {self.directory}/u; scgi_temp_path {self.directory}/s;
  server {{ listen {self.http}; root {self.directory}/root; location = / {{ return 200; }} }}
}}
""")
        return ["/usr/sbin/nginx", "-e", "stderr", "-c", path]


class Sink(System):
    """The limit of STOW: each body is hashed, written to a file of its own, flushed and acknowledged."""

    name = "sink"
    load = ""

    def command(self):
        (self.directory / "bodies").mkdir(exist_ok=True)
        return [self.load, "sink", self.http, self.directory / "bodies"]

    def start(self):
        return start_bare(self, self.http)


class StoreSink(System):
    """The limit of C-STORE: each data set is hashed, written to a file of its own, flushed and acknowledged."""

    name = "c-store-sink"
    load = ""

    def command(self):
        (self.directory / "bodies").mkdir(exist_ok=True)
        return [self.load, "c-store-sink", self.dimse, self.directory / "bodies"]

    def start(self):
        return start_bare(self, self.dimse)


def start_bare(system: System, address: str) -> float:
    """Starts a system that is ready when it accepts connections."""
    begin = time.perf_counter()
    system.process = subprocess.Popen(system.command())
    host, port = address.split(":")
    while time.perf_counter() - begin < 10:
        try:
            socket.create_connection((host, int(port))).close()
            return time.perf_counter() - begin
        except OSError:
            time.sleep(0.005)
    raise RuntimeError(f"{system.name} does not listen")


@contextlib.contextmanager
def spinning(count: int):
    """So many processes that use all the time of a core that they get."""
    spinners = [subprocess.Popen(["sh", "-c", "while :; do :; done"]) for _ in range(count)]
    try:
        yield
    finally:
        for spinner in spinners:
            spinner.kill()
            spinner.wait()
