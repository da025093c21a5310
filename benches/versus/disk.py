"""The disk that the servers write to: a file system of a known kind in a file, and its counters.

Containers and virtual machines often have a file system without a journal, or one that others use. There a flush costs
something else than on a clinic's server.
"""

import contextlib
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

SIZE_MB = 12 * 1024
MAKE = {"ext4": ["mkfs.ext4", "-q", "-F"], "xfs": ["mkfs.xfs", "-q", "-f"]}


@dataclass
class Disk:
    """A directory to work in, and the block device below it; None where its counters would count what others do."""

    directory: Path
    device: str | None = None

    def counters(self) -> tuple[int, int]:
        """Flushes and bytes written since the start of the system."""
        if self.device is None:
            return 0, 0
        fields = Path(f"/sys/block/{self.device}/stat").read_text().split()
        return int(fields[15]), int(fields[6]) * 512


@contextlib.contextmanager
def mounted(kind: str, work: Path):
    """A disk: of that kind, in a file that is removed at the end; or the working directory, if `kind` is "here"."""
    if kind == "here":
        yield Disk(work)
        return
    image, directory = work / "disk.img", work / "disk"
    directory.mkdir(exist_ok=True)
    # Its blocks are written once before, so that the file system that holds the image has no more to allocate.
    run("dd", "if=/dev/zero", f"of={image}", "bs=1M", f"count={SIZE_MB}", "status=none")
    device = run("losetup", "--find", "--show", "--direct-io=on", image)
    try:
        run(*MAKE[kind], device)
        run("mount", device, directory)
        try:
            yield Disk(directory, Path(device).name)
        finally:
            unmount(directory)
    finally:
        run("losetup", "--detach", device)
        image.unlink()


def unmount(directory: Path) -> None:
    """Unmounts, once the processes that were just stopped have let go of their files."""
    for _ in range(50):
        if subprocess.run(["umount", directory], capture_output=True).returncode == 0:
            return
        time.sleep(0.1)
    run("umount", directory)


def run(*command) -> str:
    """Runs a command that needs root; what it prints."""
    done = subprocess.run([*map(str, command)], capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{command[0]} failed ({done.stderr.strip()}): --disk here needs no root")
    return done.stdout.strip()
