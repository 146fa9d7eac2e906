"""The part of the soak test that uses a mount which hangs and recovers again and again."""

import hashlib
import os
import random
import threading
import time

from client import FtpClient, MenuClient
from server import MIB, Failed, SharedHome, Skipped, check, content
from slow_mount import SlowMount

CLIENTS = 4
NAMES = 10  # upload targets
GRANT = "user4:Remote:read,change"
PROBLEMS = [
    {"hang": "all"}, {"hang": ["READ"]}, {"hang": ["WRITE", "FSYNC"]}, {"hang": ["LOOKUP"]},
    {"hang": ["RELEASE", "FLUSH"]}, {"delay": 0.5}, {"errors": {"all": 5}}, {"write_rate": MIB},
]


class NoMount:
    """Stands in where no FUSE file system can be mounted."""

    def __init__(self):
        self.lock = threading.Lock()

    def start(self, _server):
        """There is nothing to start."""

    def stop(self):
        """There is nothing to stop."""

    def close(self):
        """There is nothing to close."""

    def verify(self):
        return "no mount"


def create(home, seed):
    """Returns the `MountSoak` of a home, or a `NoMount` and prints why."""
    try:
        return MountSoak(home, seed)
    except Skipped as reason:
        print(f"soak: the part with a hanging mount is left out: {reason}", flush=True)
        return NoMount()


class MountSoak:
    """Clients of user4 in the directory Remote, whose mount has one problem after the other.

    A request either succeeds as a whole or fails; what it leaves is checked at the end. Clients of
    other directories must not notice: `Soak` counts no problem of the mount as a disturbance.
    """

    def __init__(self, home, seed):
        self.mount = SlowMount(home.files / "Remote", home.folder)
        self.rng = random.Random(seed)
        # Held while the mount has a problem, and while the server is killed and started.
        self.lock = threading.Lock()
        self.sent = {}  # hashes of the contents sent, by name
        self.complete = set()
        self.counts = dict.fromkeys(["downloads", "uploads", "listings", "failed", "problems"], 0)
        self.failures = []
        self.stopping = threading.Event()
        self.threads = []
        self.data = content("middle", SharedHome.FILES["middle"])
        (self.mount.source / "middle").write_bytes(self.data)

    def start(self, server):
        """Starts the clients; `server` returns the running server."""
        functions = [self._make_problems] + [lambda: self._run_client(server)] * CLIENTS
        self.threads = [threading.Thread(target=function) for function in functions]
        for thread in self.threads:
            thread.start()

    def stop(self):
        self.stopping.set()
        for thread in self.threads:
            thread.join(120)

    def close(self):
        self.stopping.set()
        self.mount.close()

    def _make_problems(self):
        while not self.stopping.wait(self.rng.uniform(0.5, 3)):
            with self.lock:
                self.mount.set(**self.rng.choice(PROBLEMS))
                self.stopping.wait(self.rng.uniform(0.2, 5))
                self.mount.recover()
            self.counts["problems"] += 1

    def _run_client(self, server):
        rng = random.Random(self.rng.random())
        while not self.stopping.is_set():
            try:
                self._request(server(), rng)
            except (Failed, OSError):
                self.counts["failed"] += 1
                time.sleep(0.1)

    def _request(self, server, rng):
        kind = rng.randrange(6)
        if kind == 0:
            with FtpClient(server.ftp_address, "user4") as client:
                self._compare(client.download("Remote/middle"))
        elif kind == 1:
            name, data = self._choose_upload(rng)
            with FtpClient(server.ftp_address, "user4") as client:
                self._uploaded(name, client.put(f"Remote/{name}", data).startswith("226"))
        else:
            with MenuClient(server.address) as client:
                self._menu_request(client.login("user4"), kind, rng)

    def _menu_request(self, client, kind, rng):
        if kind == 2:
            self._compare(client.download("Remote/middle"))
        elif kind == 3:
            client.ask("SHOW DIRECTORY Remote", "The available files")
            self.counts["listings"] += 1
        elif kind == 4:
            name, data = self._choose_upload(rng)
            result = client.put(f"Remote/{name}", data)
            self._uploaded(name, result is not None and result.startswith("Upload complete: "))
        else:
            # Leaves at once, whatever the mount does.
            client.send_line(rng.choice(["DOWNLOAD FILE", "CHECKSUM FILE"]) + " Remote/middle")
            client.reset()

    def _compare(self, data):
        if data != self.data:
            self.failures.append("a download from the mount has other bytes")
        self.counts["downloads"] += 1

    def _choose_upload(self, rng):
        name = f"file {rng.randrange(NAMES)}"
        data = content(rng.random(), rng.choice([0, 1, 5000, 300_000]))
        self.sent.setdefault(name, set()).add(hashlib.sha256(data).hexdigest())
        return name, data

    def _uploaded(self, name, is_complete):
        if is_complete:
            self.complete.add(name)
        self.counts["uploads" if is_complete else "failed"] += 1

    def verify(self):
        """Checks what is on the mount when the server has ended; returns the counts."""
        check(not self.failures, f"failures: {self.failures[:1]}")
        names = set(os.listdir(self.mount.source)) - {"middle"}
        unknown = [name for name in names if name not in self.sent]
        check(not unknown, f"files on the mount that no client has sent: {unknown[:3]}")
        for name in names:
            digest = hashlib.sha256((self.mount.source / name).read_bytes()).hexdigest()
            check(digest in self.sent[name], f"Remote/{name} is not the content of one upload")
        check(self.complete <= names, f"complete, but lost: {self.complete - names}")
        return "mount: " + " ".join(f"{name}={count}" for name, count in self.counts.items())
