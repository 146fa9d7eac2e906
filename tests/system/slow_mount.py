"""Mounts that are slow, hang or fail: the FUSE mirror of `fuse_mirror.py`, and a disk on it."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import fuse_protocol as fuse
from server import MIB, Failed, Skipped, check, eventually, needs

MIRROR = Path(__file__).parent / "fuse_mirror.py"
DISK_BYTES = 192 * MIB


def needs_fuse():
    """Raises `Skipped` unless this process can mount a FUSE file system."""
    if not os.path.exists("/dev/fuse"):
        raise Skipped("needs /dev/fuse")
    if os.geteuid() != 0:
        raise Skipped("needs root, to mount")
    if "\tfuse\n" not in Path("/proc/filesystems").read_text():
        raise Skipped("needs a kernel with FUSE")


def enter_private_mounts():
    """Keeps the mounts of the tests from other processes, where the system permits that."""
    try:
        fuse.enter_private_mounts()
    except OSError:
        pass


class SlowMount:
    """A mount at `target` whose calls can be delayed, left unanswered, or failed.

    The files are in `source`, a new directory in `folder`, where the test may prepare and examine
    them at normal speed.
    """

    def __init__(self, target, folder):
        needs_fuse()
        self.target = target
        self.source = Path(tempfile.mkdtemp(prefix="source-", dir=folder))
        self.source.chmod(0o755)
        command = [sys.executable, MIRROR, self.source, target]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self.daemon = subprocess.Popen(command, text=True, **pipes)
        if "mounted" not in (answer := json.loads(self.daemon.stdout.readline() or "{}")):
            self.daemon.wait()
            raise Skipped(answer.get("error", "the FUSE mirror ended"))

    def set(self, **settings):
        """Changes settings of `Mirror.SETTINGS` and returns the state before the next request."""
        self.daemon.stdin.write(json.dumps(settings) + "\n")
        self.daemon.stdin.flush()
        line = self.daemon.stdout.readline()
        check(line, "the FUSE mirror ended")
        return json.loads(line)

    def recover(self):
        """Answers everything, from now on at normal speed."""
        self.set(delay=0, only=[], hang=[], errors={}, write_rate=0)

    def waiting(self, *operations):
        """Returns how many requests of some operations, or of all, are unanswered."""
        waiting = self.set()["waiting"]
        return sum(waiting.get(name, 0) for name in operations or waiting)

    def until_waiting(self, *operations):
        """Waits until a request of one of the operations is unanswered."""
        name = "/".join(operations) or "any request"
        eventually(f"{name} on the mount", lambda: self.waiting(*operations) > 0, 10)

    def abort(self):
        """Ends the file system: every waiting and every later request fails."""
        self.daemon.kill()
        self.daemon.wait()

    def close(self):
        self.abort()
        self.daemon.stdin.close()
        self.daemon.stdout.close()
        try:
            fuse.unmount(self.target)
        except OSError:
            pass  # unmounted by the case

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class SlowDisk:
    """An ext4 file system at `target` on a loop device whose file is on a `SlowMount`.

    To the server this is a local disk. It is as slow as the mount, and little of what is written to
    it may wait in memory, as on a machine with a small share of dirty pages.
    """

    DIRTY_BYTES_MAX = 4 * MIB

    def __init__(self, target, folder):
        needs("mkfs.ext4", "losetup", "mount")
        self.target = target
        lower = Path(tempfile.mkdtemp(prefix="disk-", dir=folder))
        self.mount = SlowMount(lower, folder)
        self.loop = None
        try:
            self._attach(lower / "image")
        except subprocess.CalledProcessError as error:
            self.close()
            raise Skipped(f"needs a loop device: {error.stderr.strip()}") from None

    def _attach(self, image):
        with open(image, "wb") as file:
            file.truncate(DISK_BYTES)
        self._run("mkfs.ext4", "-q", "-E", "lazy_itable_init=0,lazy_journal_init=0", image)
        self.loop = self._run("losetup", "--find", "--show", image).strip()
        self._run("mount", self.loop, self.target)
        number = os.stat(self.loop).st_rdev
        bdi = Path(f"/sys/class/bdi/{os.major(number)}:{os.minor(number)}")
        try:
            (bdi / "strict_limit").write_text("1")
            (bdi / "max_bytes").write_text(str(self.DIRTY_BYTES_MAX))
        except OSError:
            raise Skipped("needs a limit of dirty pages per device (Linux 6.2)") from None

    def _run(self, *command):
        finished = subprocess.run(command, capture_output=True, text=True, check=True)
        return finished.stdout

    def close(self):
        """Unmounts and detaches; works also while the disk hangs."""
        try:
            self.mount.recover()
            subprocess.run(["umount", self.target], capture_output=True, timeout=30)
        except (Failed, OSError, subprocess.TimeoutExpired):
            self.mount.abort()
            subprocess.run(["umount", "--lazy", self.target], capture_output=True)
        if self.loop:
            subprocess.run(["losetup", "--detach", self.loop], capture_output=True)
        self.mount.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
