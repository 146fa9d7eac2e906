"""A real server for scripts/faults and scripts/soak: its home, its process, clients that speak the menu and FTP, a probe
that measures how long a small download takes beside everything else, and the shim that lets calls fail.

It knows the server as a process and by its protocol, and nothing of its inside.
"""

import ftplib
import hashlib
import io
import mmap
import multiprocessing
import os
import random
import resource
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import time
from pathlib import Path

TREE = Path(__file__).resolve().parent.parent.parent
PATIENCE = 30  # seconds that one answer may take
MIB = 1 << 20
# The files of the directory Shared: sent from a map, by one sendfile, and in many turns.
FILES = {"small": 1024, "middle": 300_000, "large": 8 * MIB}
# What the shim can be told, in the order of its struct.
SWITCHES = ["write", "sync", "sendfile", "read", "unnamed", "link", "kill_at", "changes", "sync_seconds"]


def build():
    """The server as it is used, and the shim."""
    subprocess.run(["cargo", "build", "--release", "--quiet", "--locked"], cwd=TREE, check=True)


def program():
    target = Path(os.environ.get("CARGO_TARGET_DIR", TREE / "target"))
    return target / "release" / "tidegate"


class Failed(Exception):
    """What should have been was not."""


def check(holds, what):
    if not holds:
        raise Failed(what)


def eventually(what, holds, seconds=PATIENCE):
    end = time.monotonic() + seconds
    while not holds():
        check(time.monotonic() < end, f"{what}: not within {seconds} seconds")
        time.sleep(0.02)


def content(seed, length):
    return random.Random(seed).randbytes(length)


class Home:
    """A home in a temporary folder: four users; Shared to read for all, Inbox to add to for user1, to change for user2."""

    def __init__(self):
        self.folder = Path(tempfile.mkdtemp(prefix="tidegate-faults-"))
        self.path = self.folder / "home"
        self.inbox = self.path / "files" / "Inbox"
        self.shared = self.path / "files" / "Shared"
        self.inbox.mkdir(parents=True)
        self.shared.mkdir()
        users = "".join(f"user{n}:plain:pass{n}\n" for n in range(1, 5))
        (self.path / "Credentials").write_text(users)
        (self.path / "Credentials").chmod(0o600)
        self.grants = "*:Shared:read\nuser1:Inbox:read,upload\nuser2:Inbox:read,change\n"
        (self.path / "Directories").write_text(self.grants)
        self.hashes = {}
        for name, length in FILES.items():
            data = content(name, length)
            (self.shared / name).write_bytes(data)
            self.hashes[name] = hashlib.sha256(data).hexdigest()

    def temporary(self):
        """Names in Inbox that an upload on its way has, or one that was left."""
        return [name for name in os.listdir(self.inbox) if name.startswith(".")]

    def remove(self):
        shutil.rmtree(self.folder, ignore_errors=True)


class Shim:
    """The preloaded library, and the switches of the processes that it is given to."""

    path = None

    def __init__(self, home):
        if Shim.path is None:
            folder = tempfile.mkdtemp(prefix="tidegate-shim-")
            Shim.path = Path(folder) / "shim.so"
            source = Path(__file__).parent / "shim.c"
            subprocess.run(
                ["cc", "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", Shim.path, source, "-ldl"], check=True
            )
        path = home.folder / "switches"
        path.write_bytes(bytes(4 * len(SWITCHES)))
        self.environment = {"LD_PRELOAD": str(Shim.path), "TIDEGATE_FAULTS": str(path)}
        with open(path, "r+b") as file:
            self.memory = mmap.mmap(file.fileno(), 0)

    def set(self, **switches):
        for name, value in switches.items():
            struct.pack_into("i", self.memory, 4 * SWITCHES.index(name), value)

    def get(self, name):
        return struct.unpack_from("i", self.memory, 4 * SWITCHES.index(name))[0]

    @classmethod
    def forget(cls):
        if cls.path:
            shutil.rmtree(cls.path.parent, ignore_errors=True)
            cls.path = None


class Server:
    """A running `tidegate serve`, with the menu at `address` and FTP at `ftp_address`."""

    def __init__(self, home, options=(), limits=(), environment=None):
        def before():
            for limit, value in limits:
                resource.setrlimit(limit, (value, value))

        self.log_path = home.folder / "log"
        with open(self.log_path, "ab") as log:
            self.child = subprocess.Popen(
                [program(), "serve", home.path, "--listen", "127.0.0.1:0", "--ftp", "127.0.0.1:0", *options],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                env={**os.environ, **(environment or {})},
                preexec_fn=before,
            )
        self.address, self.ftp_address = self._listening(), self._listening()

    def _listening(self):
        line = self.child.stdout.readline().decode()
        check(line.startswith("listening on "), f"the server did not start: {self.log()[-300:]}")
        return ("127.0.0.1", int(line.split()[2].rsplit(":", 1)[1]))

    def log(self):
        return self.log_path.read_text(errors="replace")

    def is_running(self):
        return self.child.poll() is None

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.child.pid}/fd"))

    def memory_kib(self):
        for line in Path(f"/proc/{self.child.pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Rss:"):
                return int(line.split()[1])
        raise Failed("smaps_rollup has no line Rss")

    def cpu(self):
        fields = Path(f"/proc/{self.child.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def signal(self, number):
        self.child.send_signal(number)

    def kill(self):
        self.child.kill()
        self.child.wait()
        self.child.stdout.close()

    def stop(self):
        """Drains: everybody has left, so that it takes no time."""
        self.child.terminate()
        try:
            status = self.child.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            raise Failed("the server does not stop") from None
        finally:
            self.child.kill()
            self.child.wait()
            self.child.stdout.close()
        check(status == 0, f"the server ended with status {status}: {self.log()[-300:]}")


def reset(connection):
    """Closes a socket so that its peer is told of a reset."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


class Client:
    """One connection; a call that waits longer than PATIENCE fails."""

    def __init__(self, address, receive_buffer=None):
        self.socket = socket.socket()
        self.socket.settimeout(PATIENCE)
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.connect(address)
        self.buffer = b""

    def send(self, data):
        self.socket.sendall(data)

    def say(self, line):
        self.send(line.encode() + b"\n")

    def receive(self):
        data = self.socket.recv(1 << 18)
        self.buffer += data
        return bool(data)

    def line(self):
        """The next line; None at the end."""
        while b"\n" not in self.buffer:
            if not self.receive():
                return None
        line, self.buffer = self.buffer.split(b"\n", 1)
        return line.decode()

    def until(self, beginning):
        """Reads lines up to one that begins so."""
        seen = []
        while True:
            line = self.line()
            check(line is not None, f"closed before '{beginning}', behind {seen[-3:]}")
            if line.startswith(beginning):
                return line
            seen.append(line)

    def bytes(self, count):
        """So many bytes, or as many as come before the end."""
        pieces = [self.buffer[:count]]
        self.buffer = self.buffer[count:]
        left = count - len(pieces[0])
        while left > 0:
            data = self.socket.recv(min(left, 1 << 18))
            if not data:
                break
            pieces.append(data)
            left -= len(data)
        return b"".join(pieces)

    def login(self, number=1):
        self.say(f"LOGIN\nuser{number}\npass{number}")
        self.until("Please choose: ")
        return self

    def ask(self, command, beginning=""):
        """The first line of an answer, the menu behind it taken."""
        self.say(command)
        line = self.until(beginning)
        self.until("Please choose: ")
        return line

    def download(self, path):
        self.say(f"DOWNLOAD FILE {path}")
        length = int(self.until("LENGTH ").split()[1])
        data = self.bytes(length)
        check(len(data) == length, f"{path}: {len(data)} of {length} bytes")
        self.until("Please choose: ")
        return data

    def put(self, path, data):
        """What the server says of an upload; None where it closes without a word."""
        try:
            self.send(b"PUT FILE %d %s\n" % (len(data), path.encode()) + data)
        except (BrokenPipeError, ConnectionResetError):
            pass  # what it said before is still there
        while True:
            try:
                line = self.line()
            except ConnectionResetError:
                return None
            if line is None or not line.startswith("Please choose: "):
                return line

    def reset(self):
        reset(self.socket)

    def close(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class FtpClient:
    """One FTP connection, logged in; what goes wrong is Failed, and a refusal is its reply."""

    def __init__(self, address, number):
        self.ftp = ftplib.FTP()
        self._try(self.ftp.connect, *address, PATIENCE)
        self._try(self.ftp.login, f"user{number}", f"pass{number}")

    def _try(self, what, *arguments):
        try:
            return what(*arguments)
        except (ftplib.Error, EOFError) as error:
            raise Failed(f"FTP: {error!r}") from None

    def download(self, path):
        pieces = []
        self._try(self.ftp.retrbinary, f"RETR {path}", pieces.append, 1 << 18)
        return b"".join(pieces)

    def put(self, path, data):
        """The reply to an upload."""

        def store():
            try:
                return self.ftp.storbinary(f"STOR {path}", io.BytesIO(data))
            except (ftplib.error_temp, ftplib.error_perm) as refusal:
                return str(refusal)

        return self._try(store)

    def data(self, command):
        """The data connection of a command that has begun."""
        self._try(self.ftp.voidcmd, "TYPE I")
        return self._try(self.ftp.transfercmd, command)

    def abort(self):
        """The two replies to ABOR amid a transfer: the transfer's and its own."""
        self.ftp.putline("ABOR")
        return [self._try(self.ftp.getmultiline) for _ in range(2)]

    def reset(self):
        self.ftp.file.close()  # it keeps the socket open
        reset(self.ftp.sock)

    def close(self):
        self.ftp.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Probe:
    """A process that downloads a small file again and again and notes how long each download takes."""

    def __init__(self, address):
        self.ending = multiprocessing.Event()
        self.begun = multiprocessing.Event()
        self.results, results = multiprocessing.Pipe(duplex=False)
        self.process = multiprocessing.Process(target=self._run, args=(address, results), daemon=True)
        self.process.start()
        check(self.begun.wait(PATIENCE), "the probe cannot log in")

    def _run(self, address, results):
        took = []
        try:
            with Client(address) as client:
                client.login(3)
                self.begun.set()
                while not self.ending.is_set():
                    begun = time.monotonic()
                    data = client.download("Shared/small")
                    took.append(time.monotonic() - begun)
                    check(data == content("small", FILES["small"]), "the probe was sent other bytes")
                    time.sleep(0.002)
            results.send((took, None))
        except (Failed, OSError) as error:
            results.send((took, str(error)))

    def end(self):
        """How many downloads there were, and the 99th percentile in milliseconds."""
        self.ending.set()
        check(self.results.poll(PATIENCE + 5), "the probe does not end")
        took, error = self.results.recv()
        self.process.join()
        check(error is None, f"the probe beside it: {error}")
        check(took, "the probe beside it was not served at all")
        took.sort()
        return len(took), took[(len(took) * 99 + 99) // 100 - 1] * 1000


def raise_descriptors():
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def reload(server):
    """Reloads and waits until it has; what it says of it."""
    before = server.log().count("event=reload result=")
    server.signal(signal.SIGHUP)
    eventually("a reload", lambda: server.log().count("event=reload result=") > before)
    return server.log().rsplit("event=reload result=", 1)[1].split()[0]
