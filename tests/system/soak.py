#!/usr/bin/env python3
"""A mixed soak of a real server: downloads, uploads, kills, reloads and faults, all at once, for so many minutes.

    scripts/soak [MINUTES]   30 without it; the seed of what is done is the time, printed first
    scripts/soak MINUTES SEED

Several people download and upload by the menu and by FTP, reset, half-close and stall; the home is reloaded, broken and mended; calls fail with
I/O errors; now and then the server is killed and started again over the same home. At the end every published file is
one that somebody sent, whole, and every upload that was told to be complete is there; no temporary file is left; memory
and descriptors are where they were after the start; and the CPU is idle when the clients are. Status 1 where one of it
is not so.
"""

import errno
import hashlib
import os
import random
import socket
import sys
import threading
import time
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "faults"))
from house import FILES, MIB, Client, Failed, FtpClient, Home, Server, Shim, build, check, content, eventually
from house import raise_descriptors, reload, reset

PEOPLE = 12
NAMES = 20  # that they upload to, so that they meet
FTP_SHARE = 0.25  # of the visits
LIFE_SECONDS = 60  # of a server before it is killed
# What may stay of all that went on: freed memory that the allocator keeps for its threads.
MEMORY_KIB_MAX = 24 * 1024
IDLE_CPU_MAX = 0.02  # of one processor


def main():
    minutes = float(sys.argv[1]) if len(sys.argv) > 1 else 30
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else int(time.time())
    print(f"soak minutes={minutes:g} seed={seed}", flush=True)
    build()
    raise_descriptors()
    home = Home()
    soak = None
    try:
        soak = Soak(home, seed)
        soak.run(minutes * 60)
        told = soak.inspect()
        print(f"soak ok {told}")
    except (Failed, OSError) as error:
        print(f"soak FAILED {type(error).__name__}: {error}")
        sys.exit(1)
    finally:
        if soak and soak.server.is_running():
            soak.server.kill()
        home.remove()
        Shim.forget()


class Soak:
    def __init__(self, home, seed):
        self.home = home
        self.rng = random.Random(seed)
        self.shim = Shim(home)
        self.shim.set(unnamed=self.rng.choice([0, errno.EOPNOTSUPP]))
        self.lock = threading.Lock()
        self.ending = False
        # Counts up when calls begin to fail and when they no longer do: what is cut meanwhile is no failure.
        self.disturbed = 0
        # Counts up before a kill: no connection outlives its server.
        self.lives = 0
        self.failures = []
        counted = ["downloads", "uploads", "ftp_downloads", "ftp_uploads", "refused", "cut", "kills", "reloads", "faults"]
        self.counts = dict.fromkeys(counted, 0)
        # Hashes that were sent to each name, and names that were told to be complete.
        self.sent = {}
        self.complete = set()
        self.start()

    def start(self):
        self.server = Server(self.home, environment=self.shim.environment)

    def count(self, what):
        with self.lock:
            self.counts[what] += 1

    def run(self, seconds):
        end = time.monotonic() + seconds
        seeds = [self.rng.random() for _ in range(PEOPLE)]
        people = [threading.Thread(target=self.person, args=(random.Random(seed),)) for seed in seeds]
        for person in people:
            person.start()
        killed = time.monotonic()
        try:
            while time.monotonic() < end and not self.failures:
                time.sleep(self.rng.uniform(0.1, 1))
                check(self.server.is_running(), f"the server died: {self.server.log()[-500:]}")
                if time.monotonic() - killed > min(LIFE_SECONDS, seconds / 4):
                    self.kill()
                    killed = time.monotonic()
                else:
                    self.rng.choice([self.reload, self.fail])()
        finally:
            self.ending = True
            for person in people:
                person.join(120)
        check(not self.failures, f"{len(self.failures)} failures, the first: {self.failures[:1]}")

    # What happens to the server.

    def disturb(self, change, mend):
        with self.lock:
            self.disturbed += 1
        change()
        mend()
        with self.lock:
            self.disturbed += 1

    def kill(self):
        self.lives += 1
        self.disturb(self.server.kill, self.start)
        self.count("kills")

    def reload(self):
        directories = self.home.path / "Directories"
        directories.write_text(self.home.grants + "broken\n")
        check(reload(self.server) == "kept-the-old", "a broken home was taken up")
        directories.write_text(self.home.grants)
        check(reload(self.server) == "taken-up", "a good home was not taken up")
        self.count("reloads")

    def fail(self):
        switch = self.rng.choice(["write", "sync", "link", "read", "sendfile"])

        def change():
            self.shim.set(**{switch: self.rng.choice([errno.EIO, errno.ENOSPC])})
            time.sleep(self.rng.uniform(0.05, 0.3))

        self.disturb(change, lambda: self.shim.set(**{switch: 0}))
        self.count("faults")

    # What people do.

    def person(self, rng):
        while not self.ending:
            before, life = self.disturbed, self.lives
            try:
                if rng.random() < FTP_SHARE:
                    with FtpClient(self.server.ftp_address, rng.choice([1, 2])) as client:
                        for _ in range(rng.randrange(1, 10)):
                            rng.choice([self.ftp_download, self.ftp_upload, self.ftp_leave])(client, rng)
                            before = self.disturbed
                    continue
                with Client(self.server.address) as client:
                    client.login(rng.choice([1, 2]))
                    for _ in range(rng.randrange(1, 20)):
                        rng.choice([self.download, self.download, self.upload, self.leave])(client, rng)
                        before = self.disturbed
            except Gone:
                pass
            except (Failed, OSError) as error:
                # An odd count: calls fail now.
                if self.disturbed == before and before % 2 == 0 and self.lives == life:
                    self.failures.append(f"{type(error).__name__}: {error}")
                    return
                self.count("cut")
                time.sleep(0.1)

    def download(self, client, rng):
        name = rng.choice(list(FILES))
        client.say(f"DOWNLOAD FILE Shared/{name}")
        length = int(client.until("LENGTH ").split()[1])
        data = client.bytes(length)
        check(len(data) == length, f"{name}: {len(data)} of {length} bytes")
        self.compare(name, data)
        client.until("Please choose: ")
        self.count("downloads")

    def compare(self, name, data):
        if hashlib.sha256(data).hexdigest() != self.home.hashes[name]:
            self.failures.append(f"a download of {name} has other bytes")

    def something(self, rng):
        """A file to upload, noted before its first byte is sent."""
        name = f"file {rng.randrange(NAMES)}"
        data = content(rng.random(), rng.choice([0, 1, 5000, 300_000, 2 * MIB]))
        with self.lock:
            self.sent.setdefault(name, set()).add(hashlib.sha256(data).hexdigest())
        return name, data

    def told(self, name, kind, is_complete):
        if is_complete:
            with self.lock:
                self.complete.add(name)
        self.count(kind if is_complete else "refused")

    def upload(self, client, rng):
        name, data = self.something(rng)
        told = client.put(f"Inbox/{name}", data)
        check(told is not None, "closed behind an upload")
        is_complete = told.startswith("Upload complete: ")
        check(is_complete or told.startswith("Upload failed: "), f"said of an upload: {told}")
        self.told(name, "uploads", is_complete)
        client.until("Please choose: ")

    def ftp_download(self, client, rng):
        name = rng.choice(list(FILES))
        self.compare(name, client.download(f"Shared/{name}"))
        self.count("ftp_downloads")

    def ftp_upload(self, client, rng):
        name, data = self.something(rng)
        told = client.put(f"Inbox/{name}", data)
        # 553: user1 may not replace what is there.
        check(told[:3] in ("226", "426", "451", "452", "550", "553"), f"said of an upload: {told}")
        self.told(name, "ftp_uploads", told.startswith("226"))

    def ftp_leave(self, client, rng):
        """Some leave well, and some amid a transfer."""
        how = rng.randrange(6)
        if how == 0:
            client.ftp.quit()
        elif how == 1:
            data = client.data("RETR Shared/large")
            data.recv(rng.randrange(1, 100_000))
            client.abort()
            data.close()
            return
        elif how == 2:
            data = client.data("STOR Inbox/never")
            data.sendall(bytes(rng.randrange(300_000)))
            client.reset() if rng.random() < 0.5 else reset(data)
            data.close()
        else:
            return
        raise Gone

    def leave(self, client, rng):
        """Some leave well, and some not."""
        if rng.random() < 0.7:
            return
        how = rng.randrange(4)
        if how == 0:
            client.say("QUIT")
            client.until("Connection is terminated")
        elif how == 1:
            client.say("DOWNLOAD FILE Shared/large")
            client.bytes(rng.randrange(1, 100_000))
            client.reset()
        elif how == 2:
            client.send(b"PUT FILE 300000 Inbox/never\n" + bytes(rng.randrange(300_000)))
            client.reset()
        else:
            client.say("SHOW DIRECTORY Inbox")
            client.socket.shutdown(socket.SHUT_WR)
            while client.line() is not None:
                pass
        raise Gone

    # What is left.

    def inspect(self):
        """The same server, with nobody there, and then a fresh one over the same home to compare it with."""
        self.shim.set(unnamed=0)
        server = self.server
        # An open file that nobody downloads is let go of after ten seconds.
        time.sleep(12)
        memory, descriptors = server.memory_kib(), server.descriptors()
        cpu, begun = server.cpu(), time.monotonic()
        time.sleep(5)
        idle = (server.cpu() - cpu) / (time.monotonic() - begun)
        server.stop()
        self.start()
        eventually("the sweep", lambda: not self.home.temporary())
        with Client(self.server.address) as client:
            client.login(2)
            for _ in range(3):
                self.download(client, self.rng)
            check(client.put("Inbox/last", b"last") == "Upload complete: last, 4 bytes", "an upload at the end")
        time.sleep(12)
        fresh = self.server.memory_kib(), self.server.descriptors()
        self.server.stop()

        check(not self.failures, f"failures: {self.failures[:1]}")
        check(idle <= IDLE_CPU_MAX, f"cpu={idle:.3f} though nobody is there")
        check(descriptors == fresh[1], f"{descriptors} descriptors, {fresh[1]} of a fresh server")
        more = memory - fresh[0]
        check(more <= MEMORY_KIB_MAX, f"{more} KiB more memory than a fresh server")
        names = set(os.listdir(self.home.inbox)) - {"last"}
        unknown = [name for name in names if name not in self.sent]
        check(not unknown, f"files that nobody sent: {unknown[:3]}")
        for name in names:
            digest = hashlib.sha256((self.home.inbox / name).read_bytes()).hexdigest()
            check(digest in self.sent[name], f"{name} is torn")
        check(self.complete <= names, f"complete and lost: {self.complete - names}")
        counts = " ".join(f"{name}={count}" for name, count in self.counts.items())
        return f"{counts} files={len(names)} memory_kib={more:+} descriptors=+0 idle_cpu={idle:.3f}"


class Gone(Exception):
    """A client has left."""


if __name__ == "__main__":
    main()
