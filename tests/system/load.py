"""Thousands of FTP sessions of one user that repeat one kind of request, in a process of its own.

For speed, sessions are plain descriptors in an epoll loop.
"""

import collections
import dataclasses
import errno
import multiprocessing
import os
import select
import socket
import time

from server import MIB, check, raise_descriptor_limit

START_SECONDS_MAX = 60  # until all sessions have logged in
NICE = 5  # the load shares the processors with the server
FIRST_NETWORK = 10  # sessions use addresses of their own in 127.10.0.0/16 and later


@dataclasses.dataclass(frozen=True)
class Kind:
    """A request, in which {session} and {number} are replaced; it may transfer data."""

    name: str
    line: str
    transfer: str = ""  # "download" or "upload"
    is_login: bool = False


KINDS = [
    Kind("STAT", "STAT Movies"),
    Kind("LIST", "LIST Movies", "download"),
    Kind("MLSD", "MLSD Movies", "download"),
    Kind("HASH", "XSHA256 Shared/large"),
    Kind("SIZE", "SIZE Shared/small"),
    Kind("RETR", "RETR Shared/small", "download"),
    Kind("RETR-missing", "RETR Shared/missing-{number}", "download"),
    Kind("MKD", "MKD Box/{session}-{number}"),
    Kind("APPE", "APPE Box/{session}", "upload"),
    Kind("wrong-passwords", "USER user2\r\nPASS wrong-{session}-{number}", is_login=True),
]


class Session:
    """The state of one session. `number` counts its requests."""

    __slots__ = ("index", "control", "data", "buffer", "number", "connections", "awaits_port")

    def __init__(self, index):
        self.index = index
        self.control = self.data = None
        self.buffer = b""
        self.number = 0
        self.connections = 0
        self.awaits_port = False


class Load:
    """The sessions of one process."""

    def __init__(self, address, kind, count, completed):
        self.address = address
        self.kind = kind
        self.completed = completed  # requests, shared with the parent process
        self.sessions = [Session(index) for index in range(count)]
        self.by_descriptor = {}
        self.poll = select.epoll()
        self.logged_in = 0
        self.is_started = False
        self.lost = collections.deque()

    def run(self, started, begin):
        for session in self.sessions:
            self.connect(session)
            while session.index - self.logged_in > 500:  # the server's backlog is not longer
                self.tick()
        while self.logged_in < len(self.sessions):
            self.tick()
        started.set()
        begin.wait()
        self.is_started = True
        for session in self.sessions:
            self.request(session)
        while True:
            self.tick()

    def tick(self):
        for descriptor, _ in self.poll.poll(1, 4096):
            session = self.by_descriptor.get(descriptor)
            if session is None:
                continue
            if descriptor == session.control:
                self.read_control(session)
            else:
                self.read_data(session)
        for _ in range(min(100, len(self.lost))):
            self.connect(self.lost.popleft())

    def connect(self, session):
        network = FIRST_NETWORK + session.connections % 200
        session.connections += 1
        host = f"127.{network}.{session.index >> 8}.{session.index & 255}"
        session.control = self.open(session, host, self.address[1])
        session.buffer = b""

    def open(self, session, host, port):
        """Begins a connection and returns its descriptor."""
        one = socket.socket()
        one.setblocking(False)
        one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        one.bind((host, 0))
        if one.connect_ex((self.address[0], port)) not in (0, errno.EINPROGRESS):
            raise OSError("cannot connect")
        descriptor = one.detach()
        self.by_descriptor[descriptor] = session
        self.poll.register(descriptor, select.EPOLLIN)
        return descriptor

    def close(self, descriptor):
        if self.by_descriptor.pop(descriptor, None):
            os.close(descriptor)

    def read_control(self, session):
        try:
            data = os.read(session.control, 65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.close_data(session)
            self.close(session.control)
            if not self.is_started:
                raise OSError(f"a session was closed during its login: {session.buffer[-100:]}")
            self.lost.append(session)
            return
        session.buffer += data
        while (reply := take_reply(session)) is not None:
            self.handle(session, reply)

    def handle(self, session, reply):
        code = reply[:3]
        if code == b"220":
            if self.kind.is_login:
                self.logged_in += 1
                if self.is_started:
                    self.request(session)
            else:
                self.send(session, b"USER user1\r\nPASS pass1\r\nTYPE I\r\n")
        elif code == b"200" and not self.is_started:
            self.logged_in += 1
        elif code == b"200" or code in (b"230", b"331"):
            if code == b"200":
                self.request(session)  # a session that had been closed
        elif code == b"229":
            self.start_transfer(session, int(reply.split(b"|")[3]))
        elif code[:1] == b"1":
            if self.kind.transfer == "upload":
                os.write(session.data, b"x")
                self.close_data(session)
        else:
            self.close_data(session)
            self.completed.value += 1
            self.request(session)

    def request(self, session):
        if self.kind.transfer:
            self.send(session, b"EPSV\r\n")
        else:
            self.send(session, self.line(session))

    def start_transfer(self, session, port):
        network = FIRST_NETWORK + (session.connections - 1) % 200
        host = f"127.{network}.{session.index >> 8}.{session.index & 255}"
        session.data = self.open(session, host, port)
        self.send(session, self.line(session))

    def line(self, session):
        session.number += 1
        line = self.kind.line.format(session=session.index, number=session.number)
        return line.encode() + b"\r\n"

    def send(self, session, data):
        try:
            os.write(session.control, data)
        except OSError:
            pass  # the end of the session is read later

    def read_data(self, session):
        try:
            if os.read(session.data, MIB):
                return
        except BlockingIOError:
            return
        except OSError:
            pass
        self.close_data(session)

    def close_data(self, session):
        if session.data is not None:
            self.close(session.data)
            session.data = None


def take_reply(session):
    """Returns the last line of the next whole reply, or None."""
    at = 0
    while (end := session.buffer.find(b"\r\n", at)) >= 0:
        line = session.buffer[at:end]
        at = end + 2
        if line[3:4] == b" " and line[:3].isdigit():
            session.buffer = session.buffer[at:]
            return line
    return None


class LoadProcess:
    """Logs in `count` sessions, which send nothing until `begin`."""

    def __init__(self, address, kind, count):
        self.completed = multiprocessing.Value("q", 0, lock=False)
        self.started, self.go = multiprocessing.Event(), multiprocessing.Event()
        arguments = (address, kind, count)
        self.process = multiprocessing.Process(target=self._run, args=arguments, daemon=True)
        self.process.start()
        deadline = time.monotonic() + START_SECONDS_MAX
        while not self.started.wait(0.1):
            check(self.process.is_alive(), f"{kind.name}: the load ended")
            check(time.monotonic() < deadline, f"{kind.name}: not all sessions could log in")

    def _run(self, *arguments):
        os.nice(NICE)
        raise_descriptor_limit()
        Load(*arguments, self.completed).run(self.started, self.go)

    def begin(self):
        self.go.set()

    def stop(self):
        """Ends all sessions by the end of the process; returns the completed requests."""
        check(self.process.is_alive(), "the load ended early")
        self.process.kill()
        self.process.join()
        return self.completed.value
