"""A soak test: downloads, uploads, kills, reloads and I/O errors at the same time.

    scripts/soak [MINUTES [SEED]]   30 minutes by default; the default seed is the time

Several clients download and upload by the menu and by FTP, reset, half-close and stall. Meanwhile
the home is replaced by broken and by valid files, system calls fail, and the server is killed and
restarted over the same home. Where a FUSE file system can be mounted, one granted directory is on a
mount that hangs, is slow or fails for seconds, again and again; only requests to it may fail then.
At the end every published file has the content of one upload, every upload that was reported as
complete exists, no temporary file exists, memory, descriptors and sessions are those of a fresh
server, and the CPU is idle. The exit status is 1 if any of this does not hold.
"""

import errno
import hashlib
import os
import random
import re
import socket
import sys
import threading
import time

sys.dont_write_bytecode = True

import soak_mount
from client import FtpClient, MenuClient, reset
from fault_injection import FaultInjector
from server import MIB, Failed, Server, SharedHome, Skipped, build, check, content, eventually
from server import raise_descriptor_limit
from slow_mount import enter_private_mounts

CLIENTS = 12
NAMES = 20  # upload targets; few, so that uploads compete for them
FTP_SHARE = 0.25  # of the sessions
LIFE_SECONDS = 60  # of a server before it is killed
# Freed memory that the allocator may keep, and the memory of argon2, which each worker keeps after
# it has verified a password.
MEMORY_KIB_MAX = 24 * 1024 + os.cpu_count() * 19 * 1024
IDLE_CPU_MAX = 0.02  # of one core
DISK_TIMEOUT_SECONDS = 2  # shorter than some of the times for which the mount hangs
CACHE_SECONDS = 12  # until the server has closed cached files
COUNTED = [
    "downloads", "uploads", "ftp_downloads", "ftp_uploads", "refused", "interrupted",
    "kills", "reloads", "faults",
]


class Disconnected(Exception):
    """The client has ended its session on purpose."""


def main():
    minutes = float(sys.argv[1]) if len(sys.argv) > 1 else 30
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else int(time.time())
    print(f"soak minutes={minutes:g} seed={seed}", flush=True)
    soak = None
    try:
        build()
        raise_descriptor_limit()
        enter_private_mounts()
        with SharedHome([soak_mount.GRANT]) as home:
            mount = soak_mount.create(home, seed)
            try:
                soak = Soak(home, seed, mount)
                soak.run(minutes * 60)
                print(f"soak ok {soak.verify()}")
            finally:
                mount.close()
    except Skipped as reason:
        print(f"soak skipped {reason}")
    except (Failed, OSError) as error:
        print(f"soak FAILED {type(error).__name__}: {error}")
        return 1
    finally:
        if soak and soak.server.is_running():
            soak.server.kill()
        FaultInjector.remove_library()
    return 0


class Soak:
    def __init__(self, home, seed, mount):
        self.home = home
        self.mount = mount
        self.rng = random.Random(seed)
        self.injector = FaultInjector(home)
        self.injector.set(unnamed=self.rng.choice([0, errno.EOPNOTSUPP]))
        self.lock = threading.Lock()
        self.stopping = False
        # Incremented when a disturbance begins and when it ends; odd during a disturbance.
        # Errors of sessions that overlap with one are expected.
        self.disturbances = 0
        self.restarts = 0
        self.failures = []
        self.counts = dict.fromkeys(COUNTED, 0)
        self.sent = {}  # hashes of the contents sent, by name
        self.complete = set()  # names of uploads that were reported as complete
        self.start()

    def start(self):
        options = ["--disk-timeout", str(DISK_TIMEOUT_SECONDS)]
        self.server = Server(self.home, options, environment=self.injector.environment)

    def count(self, kind):
        with self.lock:
            self.counts[kind] += 1

    def run(self, seconds):
        deadline = time.monotonic() + seconds
        clients = []
        for _ in range(CLIENTS):
            rng = random.Random(self.rng.random())
            clients.append(threading.Thread(target=self.run_client, args=(rng,)))
        for client in clients:
            client.start()
        self.mount.start(lambda: self.server)
        started = time.monotonic()
        try:
            while time.monotonic() < deadline and not self.failures:
                time.sleep(self.rng.uniform(0.1, 1))
                check(self.server.is_running(), f"the server died: {self.server.log()[-500:]}")
                if time.monotonic() - started > min(LIFE_SECONDS, seconds / 4):
                    self.kill()
                    started = time.monotonic()
                else:
                    self.rng.choice([self.reload, self.inject_fault])()
        finally:
            self.stopping = True
            self.mount.stop()
            for client in clients:
                client.join(120)
        check(not self.failures, f"{len(self.failures)} failures, the first: {self.failures[:1]}")

    # Disturbances of the server.

    def disturb(self, begin, end):
        with self.lock:
            self.disturbances += 1
        begin()
        end()
        with self.lock:
            self.disturbances += 1

    def kill(self):
        self.restarts += 1
        with self.mount.lock:
            self.disturb(self.server.kill, self.start)
        self.count("kills")

    def reload(self):
        directories = self.home.path / "Directories"
        directories.write_text(self.home.grants + "broken\n")
        check(self.server.reload() == "kept-the-old", "a broken home was accepted")
        directories.write_text(self.home.grants)
        check(self.server.reload() == "taken-up", "a valid home was refused")
        self.count("reloads")

    def inject_fault(self):
        switch = self.rng.choice(["write", "sync", "link", "read", "sendfile"])

        def begin():
            self.injector.set(**{switch: self.rng.choice([errno.EIO, errno.ENOSPC])})
            time.sleep(self.rng.uniform(0.05, 0.3))

        self.disturb(begin, lambda: self.injector.set(**{switch: 0}))
        self.count("faults")

    # Clients.

    def run_client(self, rng):
        while not self.stopping:
            # Refreshed after each complete action.
            before, restarts = self.disturbances, self.restarts
            try:
                for _ in self.session(rng):
                    before = self.disturbances
            except Disconnected:
                pass
            except (Failed, OSError) as error:
                disturbed = self.disturbances != before or before % 2 == 1
                if not disturbed and self.restarts == restarts:
                    self.failures.append(f"{type(error).__name__}: {error}")
                    return
                self.count("interrupted")
                time.sleep(0.1)

    def session(self, rng):
        """Runs one session; yields after each complete action."""
        user = rng.choice(["user1", "user2"])
        if rng.random() < FTP_SHARE:
            actions = [self.ftp_download, self.ftp_upload, self.ftp_disconnect]
            with FtpClient(self.server.ftp_address, user) as client:
                for _ in range(rng.randrange(1, 10)):
                    rng.choice(actions)(client, rng)
                    yield
        else:
            actions = [self.download, self.download, self.upload, self.disconnect]
            with MenuClient(self.server.address) as client:
                client.login(user)
                for _ in range(rng.randrange(1, 20)):
                    rng.choice(actions)(client, rng)
                    yield

    def download(self, client, rng):
        name = rng.choice(list(self.home.FILES))
        self.compare(name, client.download(f"Shared/{name}"))
        self.count("downloads")

    def compare(self, name, data):
        if hashlib.sha256(data).hexdigest() != self.home.hashes[name]:
            self.failures.append(f"a download of {name} has other bytes")

    def choose_upload(self, rng):
        """Returns a name and a content, which is registered before its first byte is sent."""
        name = f"file {rng.randrange(NAMES)}"
        data = content(rng.random(), rng.choice([0, 1, 5000, 300_000, 2 * MIB]))
        with self.lock:
            self.sent.setdefault(name, set()).add(hashlib.sha256(data).hexdigest())
        return name, data

    def uploaded(self, name, kind, is_complete):
        if is_complete:
            with self.lock:
                self.complete.add(name)
        self.count(kind if is_complete else "refused")

    def upload(self, client, rng):
        name, data = self.choose_upload(rng)
        result = client.put(f"Inbox/{name}", data)
        check(result is not None, "closed without a result of an upload")
        is_complete = result.startswith("Upload complete: ")
        is_known = is_complete or result.startswith("Upload failed: ")
        check(is_known, f"result of an upload: {result}")
        self.uploaded(name, "uploads", is_complete)
        client.until_menu()

    def ftp_download(self, client, rng):
        name = rng.choice(list(self.home.FILES))
        self.compare(name, client.download(f"Shared/{name}"))
        self.count("ftp_downloads")

    def ftp_upload(self, client, rng):
        name, data = self.choose_upload(rng)
        reply = client.put(f"Inbox/{name}", data)
        # 553: user1 may not replace existing files.
        codes = ("226", "426", "451", "452", "550", "553")
        check(reply[:3] in codes, f"reply to an upload: {reply}")
        self.uploaded(name, "ftp_uploads", reply.startswith("226"))

    def ftp_disconnect(self, client, rng):
        """Sometimes ends the session: by QUIT, or during a transfer."""
        kind = rng.randrange(6)
        if kind == 0:
            client.ftp.quit()
        elif kind == 1:
            data = client.data("RETR Shared/large")
            data.recv(rng.randrange(1, 100_000))
            client.abort()
            data.close()
            return
        elif kind == 2:
            data = client.data("STOR Inbox/never")
            data.sendall(bytes(rng.randrange(300_000)))
            if rng.random() < 0.5:
                client.reset()
                data.close()
            else:
                reset(data)
        else:
            return
        raise Disconnected

    def disconnect(self, client, rng):
        """Sometimes ends the session: by QUIT, by a reset or by a half-close."""
        if rng.random() < 0.7:
            return
        kind = rng.randrange(4)
        if kind == 0:
            client.send_line("QUIT")
            client.until("Connection is terminated")
        elif kind == 1:
            client.send_line("DOWNLOAD FILE Shared/large")
            client.bytes(rng.randrange(1, 100_000))
            client.reset()
        elif kind == 2:
            client.send(b"PUT FILE 300000 Inbox/never\n" + bytes(rng.randrange(300_000)))
            client.reset()
        else:
            client.send_line("SHOW DIRECTORY Inbox")
            client.socket.shutdown(socket.SHUT_WR)
            while client.line() is not None:
                pass
        raise Disconnected

    # Checks afterwards.

    def verify(self):
        """Compares the server without clients with a fresh one over the same home."""
        self.injector.set(unnamed=0)
        time.sleep(CACHE_SECONDS)
        memory, descriptors = self.server.memory_kib(), self.server.descriptors()
        sessions = open_sessions(self.server)
        idle_cpu = self.server.cpu_share(5)
        self.server.stop()
        fresh_memory, fresh_descriptors = self.measure_fresh_server()

        check(not self.failures, f"failures: {self.failures[:1]}")
        check(not sessions, f"sessions without a client: {sorted(sessions)[:3]}")
        check(idle_cpu <= IDLE_CPU_MAX, f"cpu={idle_cpu:.3f} without clients")
        expected = f"{fresh_descriptors} of a fresh server"
        check(descriptors == fresh_descriptors, f"{descriptors} descriptors, {expected}")
        growth = memory - fresh_memory
        check(growth <= MEMORY_KIB_MAX, f"{growth} KiB more memory than a fresh server")
        names = set(os.listdir(self.home.inbox)) - {"last"}
        unknown = [name for name in names if name not in self.sent]
        check(not unknown, f"files that no client has sent: {unknown[:3]}")
        for name in names:
            digest = hashlib.sha256((self.home.inbox / name).read_bytes()).hexdigest()
            check(digest in self.sent[name], f"{name} is not the content of one upload")
        check(self.complete <= names, f"reported as complete, but lost: {self.complete - names}")
        counts = " ".join(f"{name}={count}" for name, count in self.counts.items())
        usage = f"memory_kib={growth:+} descriptors=+0 idle_cpu={idle_cpu:.3f}"
        return f"{counts} files={len(names)} {usage} {self.mount.verify()}"

    def measure_fresh_server(self):
        self.start()
        eventually("removal of orphans", lambda: not self.home.temporary_names())
        with MenuClient(self.server.address) as client:
            client.login("user2")
            for _ in range(3):
                self.download(client, self.rng)
            result = client.put("Inbox/last", b"last")
            check(result == "Upload complete: last, 4 bytes", f"result of an upload: {result}")
        time.sleep(CACHE_SECONDS)
        fresh = self.server.memory_kib(), self.server.descriptors()
        self.server.stop()
        return fresh


def open_sessions(server):
    """Returns the sessions whose end the log of the last server does not report."""
    started = server.log().rsplit("event=sandbox", 1)[-1]
    numbers = re.findall(r"session=(\d+) event=connect ", started)
    return set(numbers) - set(re.findall(r"session=(\d+) event=end ", started))


if __name__ == "__main__":
    sys.exit(main())
