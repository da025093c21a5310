"""A Ceph cluster of one monitor and one store in memory, with its S3 gateway on a port of loopback, for tests.

There is no manager daemon, which only collects statistics and balances data.
"""

import asyncio
import os
import uuid
from pathlib import Path

CONFIGURATION = """
[global]
fsid = {fsid}
mon host = [v2:127.0.0.1:{monitor_port}/0]
public addr = 127.0.0.1
cluster addr = 127.0.0.1
keyring = {directory}/keyring
run dir = {directory}
admin socket = {directory}/$name.asok
log file = {directory}/$name.log
mon data = {directory}/mon
osd data = {directory}/osd
osd objectstore = memstore
memstore device bytes = 4G
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 1
osd pool default pgp num = 1
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
mon allow pool size one = true
# The monitor would not start on a disk that is 95 % full, whatever is free in bytes.
mon data avail warn = 0
mon data avail crit = 0
# Changes of the map take effect at once; the default waits a second for more changes.
paxos propose interval = 0.02
paxos min wait = 0.01
auth allow insecure global id reclaim = false

[client.rgw]
rgw data = {directory}/rgw
rgw frontends = beast endpoint=127.0.0.1:{port}
# Objects may be encrypted with a key of this name (SSE-KMS), without TLS.
rgw crypt require ssl = false
rgw crypt s3 kms backend = testing
rgw crypt s3 kms encryption keys = testkey-1=YmluCmJvb3N0CmJvb3N0LWJ1aWxkCmNlcGguY29uZgo=
"""


class Ceph:
    """A cluster that `start` starts. The owner of `spawn` ends the processes."""

    def __init__(self, directory: Path, port: int, monitor_port: int):
        self.directory, self.port, self.monitor_port = directory, port, monitor_port
        self.configuration = directory / "ceph.conf"

    async def start(self, spawn, access_key: str, secret_key: str) -> None:
        """`spawn(name, arguments)` starts a process and does not wait for its end."""
        for name in ["mon", "osd", "rgw"]:
            (self.directory / name).mkdir()
        fsid = str(uuid.uuid4())
        text = CONFIGURATION.format(
            fsid=fsid, directory=self.directory, port=self.port, monitor_port=self.monitor_port
        )
        self.configuration.write_text(text)
        await self.make_keys()
        await self.make_monitor(fsid)
        await spawn("ceph-mon", ["ceph-mon", "--conf", self.configuration, "-i", "a", "-f"])
        osd = str(uuid.uuid4())
        # This command waits for the monitor.
        await self.run("ceph", "osd", "new", osd)
        await self.run("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", osd)
        await spawn("ceph-osd", ["ceph-osd", "--conf", self.configuration, "-i", "0", "-f"])
        await self.run(
            *["radosgw-admin", "-n", "client.rgw", "user", "create", "--uid=test", "--display-name=test"],
            *[f"--access-key={access_key}", f"--secret-key={secret_key}"],
        )
        await spawn("radosgw", ["radosgw", "--conf", self.configuration, "-n", "client.rgw", "-f"])

    async def make_keys(self) -> None:
        """The keys by which the daemons authenticate each other."""
        keyring = self.directory / "keyring"
        everything = ["--cap", "mon", "allow *", "--cap", "osd", "allow *", "--cap", "mgr", "allow *"]
        for number, name in enumerate(["mon.", "client.admin", "client.rgw", "osd.0"]):
            create = [] if number else ["--create-keyring"]
            await self.run("ceph-authtool", *create, keyring, "--gen-key", "-n", name, *everything)

    async def make_monitor(self, fsid: str) -> None:
        keyring, monitors = self.directory / "keyring", self.directory / "monmap"
        address = f"[v2:127.0.0.1:{self.monitor_port}/0]"
        await self.run("monmaptool", "--create", "--addv", "a", address, "--fsid", fsid, monitors)
        await self.run("ceph-mon", "--mkfs", "-i", "a", "--monmap", monitors, "--keyring", keyring)

    async def run(self, *command) -> None:
        """Runs a command of Ceph to its end."""
        with open(self.directory / "commands.log", "ab") as log:
            process = await asyncio.create_subprocess_exec(
                *map(str, command),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=os.environ | {"CEPH_CONF": str(self.configuration)},
            )
            try:
                status = await process.wait()
            except asyncio.CancelledError:
                process.kill()
                raise
        if status != 0:
            raise RuntimeError(f"{command[0]} ended with {status}")
