"""Helpers shared by the system tests: building the server, homes, server processes, checks.

The server is used as a process and through its protocols only.
"""

import hashlib
import os
import random
import re
import resource
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
TIMEOUT_SECONDS = 30  # for one response
MIB = 1 << 20
LOOPBACK = "127.0.0.1:0"


class Failed(Exception):
    """A check did not hold."""


class Skipped(Exception):
    """The machine lacks something that the case needs."""


def check(condition, message):
    if not condition:
        raise Failed(message)


def needs(*tools):
    """Raises `Skipped` unless every tool is on the PATH."""
    for tool in tools:
        if shutil.which(tool) is None:
            raise Skipped(f"needs {tool}")


def eventually(what, condition, seconds=TIMEOUT_SECONDS):
    """Polls `condition` until it holds; fails after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        check(time.monotonic() < deadline, f"{what}: not within {seconds} seconds")
        time.sleep(0.02)


def run_cases(cases):
    """Runs named functions and prints one line for each: `NAME ok|skipped|FAILED DETAILS`.

    Returns the exit status: 1 if a case failed.
    """
    width = max(map(len, cases))
    failures = 0
    for name, case in cases.items():
        try:
            result, details = "ok", case() or ""
        except Skipped as reason:
            result, details = "skipped", reason
        except (Failed, OSError, subprocess.SubprocessError) as error:
            result, details = "FAILED", f"{type(error).__name__}: {error}"
            failures += 1
        print(f"{name:<{width}}  {result:<7}  {details}".rstrip(), flush=True)
    return 1 if failures else 0


def content(seed, length):
    """Returns random bytes that depend on the seed only."""
    return random.Random(seed).randbytes(length)


def percentile(times, percent):
    """Returns the smallest time that is not exceeded by `percent` of the times."""
    ranked = sorted(times)
    return ranked[max(0, -(-len(ranked) * percent // 100) - 1)]


def raise_descriptor_limit():
    """Raises the soft limit of open files to the hard limit and returns it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def free_port():
    """Returns a port that is currently free in both address families."""
    family = socket.AF_INET6
    with socket.create_server(("::", 0), family=family, dualstack_ipv6=True) as listener:
        return listener.getsockname()[1]


def build():
    """Builds the server with optimization."""
    command = ["cargo", "build", "--release", "--quiet", "--locked", "--bin", "tidegate"]
    subprocess.run(command, cwd=ROOT, check=True)


def program():
    """Returns the path of the server, which may be given by TIDEGATE."""
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    return Path(os.environ.get("TIDEGATE", target / "release" / "tidegate"))


class Home:
    """A home in a temporary folder.

    `users` maps names to passwords; a grant is a line of `Directories` whose directory is made.
    """

    def __init__(self, users, grants, in_memory=False):
        shared_memory = "/dev/shm"
        parent = shared_memory if in_memory and os.path.isdir(shared_memory) else None
        self.folder = Path(tempfile.mkdtemp(prefix="tidegate-system-", dir=parent))
        self.path = self.folder / "home"
        self.files = self.path / "files"
        self.files.mkdir(parents=True)
        credentials = self.path / "Credentials"
        credentials.write_text("".join(f"{u}:plain:{p}\n" for u, p in users.items()))
        credentials.chmod(0o600)
        self.grants = "".join(f"{grant}\n" for grant in grants)
        (self.path / "Directories").write_text(self.grants)
        for grant in grants:
            (self.files / grant.split(":")[1]).mkdir(exist_ok=True)

    def remove(self):
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.remove()


class SharedHome(Home):
    """A home of four users: all may read Shared; user1 may add to Inbox, user2 may change it.

    `more_grants` are further lines of `Directories`.
    """

    # One file for each way of sending: mapped, by a single sendfile, in many time slices.
    FILES = {"small": 1024, "middle": 300_000, "large": 8 * MIB}

    def __init__(self, more_grants=(), in_memory=False):
        users = {f"user{number}": f"pass{number}" for number in range(1, 5)}
        grants = ["*:Shared:read", "user1:Inbox:read,upload", "user2:Inbox:read,change"]
        super().__init__(users, [*grants, *more_grants], in_memory)
        self.inbox = self.files / "Inbox"
        self.shared = self.files / "Shared"
        self.hashes = {}
        for name, length in self.FILES.items():
            data = content(name, length)
            (self.shared / name).write_bytes(data)
            self.hashes[name] = hashlib.sha256(data).hexdigest()

    def temporary_names(self):
        """Returns the names in Inbox of staged uploads and of orphans."""
        return [name for name in os.listdir(self.inbox) if name.startswith(".")]


class Server:
    """A running `tidegate serve` with a menu port at `address` and an FTP port at `ftp_address`.

    `menu` and `ftp` are the addresses to listen on, or None. The log is at `log_path`.
    """

    def __init__(self, home, options=(), limits=(), environment=None, menu=LOOPBACK, ftp=LOOPBACK):
        def set_limits():
            for limit, value in limits:
                resource.setrlimit(limit, (value, value))

        listeners = (["--listen", menu] if menu else []) + (["--ftp", ftp] if ftp else [])
        self.log_path = home.folder / "log"
        with open(self.log_path, "ab") as log:
            self.child = subprocess.Popen(
                [program(), "serve", home.path, *listeners, *options],
                bufsize=0,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                env={**os.environ, **(environment or {})},
                preexec_fn=set_limits,
            )
        self.address = self._read_address() if menu else None
        self.ftp_address = self._read_address() if ftp else None

    def _read_address(self):
        readable, _, _ = select.select([self.child.stdout], [], [], TIMEOUT_SECONDS)
        line = self.child.stdout.readline().decode() if readable else ""
        found = re.search(r"(\S+):(\d+)\b", line)
        if not found:
            self.kill()
            raise Failed(f"the server did not start: {self.log()[-300:]}")
        return found[1].strip("[]"), int(found[2])

    def log(self):
        return self.log_path.read_text(errors="replace")

    def is_running(self):
        return self.child.poll() is None

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.child.pid}/fd"))

    def listeners(self):
        """Returns how many of the descriptors are sockets that accept connections."""
        folder = Path(f"/proc/{self.child.pid}")
        listening = set()
        for table in ["tcp", "tcp6"]:
            for line in (folder / "net" / table).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == "0A":  # TCP_LISTEN
                    listening.add(f"socket:[{fields[9]}]")
        count = 0
        for name in os.listdir(folder / "fd"):
            try:
                count += os.readlink(folder / "fd" / name) in listening
            except FileNotFoundError:
                pass  # closed meanwhile
        return count

    def memory_kib(self):
        """Returns the resident memory in KiB."""
        for line in Path(f"/proc/{self.child.pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Rss:"):
                return int(line.split()[1])
        raise Failed("smaps_rollup has no line Rss")

    def cpu(self):
        """Returns the CPU time in seconds."""
        stat = Path(f"/proc/{self.child.pid}/stat").read_text()
        fields = stat.rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def cpu_share(self, seconds):
        """Returns the share of one core that the server uses during the next seconds."""
        cpu, start = self.cpu(), time.monotonic()
        time.sleep(seconds)
        return (self.cpu() - cpu) / (time.monotonic() - start)

    def signal(self, number):
        self.child.send_signal(number)

    def reload(self):
        """Reloads the home and returns the logged result."""
        marker = "event=reload result="
        before = self.log().count(marker)
        self.signal(signal.SIGHUP)
        eventually("a reload", lambda: self.log().count(marker) > before)
        return self.log().rsplit(marker, 1)[1].split()[0]

    def kill(self):
        self.child.kill()
        self.child.wait()
        self.child.stdout.close()

    def stop(self):
        """Stops the server gracefully; fails unless it exits with status 0."""
        self.child.terminate()
        try:
            status = self.child.wait(2 * TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            raise Failed("the server does not stop") from None
        finally:
            self.kill()
        check(status == 0, f"the server exited with status {status}: {self.log()[-300:]}")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()
