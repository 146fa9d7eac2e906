"""Requests that need a certain call of the disk, for mounts that do not answer it."""

import dataclasses
import socket
import time

from client import FtpClient, MenuClient
from server import Failed, check

LENGTH = 300_000  # of an upload


@dataclasses.dataclass
class Request:
    """One request of user2 to the directory Remote.

    `operations` are the FUSE calls of which one is not answered. An `upload` is sent with data of
    `LENGTH` bytes, a `download` makes a data connection in FTP. `before` is a command that precedes
    it. In the menu, `late` means that the server has announced the length, so that it can report
    an error only by closing the connection. `is_published`: all bytes of an upload have been sent, so
    that it takes its name even if the client leaves or sends ABOR.
    """

    line: str
    operations: tuple
    kind: str = ""
    before: str = ""
    late: bool = False
    is_published: bool = False

    def __str__(self):
        return f"{self.line} ({self.operations[0]})"


FTP = [
    Request("SIZE Remote/small", ("LOOKUP",)),
    Request("MDTM Remote/small", ("LOOKUP",)),
    Request("CWD Remote/folder", ("LOOKUP",)),
    Request("MLST Remote/small", ("LOOKUP",)),
    Request("STAT Remote", ("OPENDIR", "READDIR")),
    Request("LIST Remote", ("OPENDIR", "READDIR"), "download"),
    Request("MLSD Remote/folder", ("LOOKUP",), "download"),
    Request("NLST Remote", ("READDIR",), "download"),
    Request("RETR Remote/small", ("LOOKUP",), "download"),
    Request("RETR Remote/middle", ("OPEN",), "download"),
    Request("RETR Remote/large", ("READ",), "download"),
    Request("XCRC Remote/large", ("READ",)),
    Request("XSHA256 Remote/large", ("OPEN",)),
    Request("AVBL Remote", ("STATFS",)),
    Request("MKD Remote/new", ("MKDIR",)),
    Request("RMD Remote/empty", ("RMDIR",)),
    Request("DELE Remote/old", ("UNLINK",)),
    Request("RNTO Remote/renamed", ("RENAME", "RENAME2", "LINK"), before="RNFR Remote/older"),
    Request("MFMT 20260101000000 Remote/small", ("SETATTR",)),
    Request("STOR Remote/a", ("TMPFILE", "CREATE"), "upload"),
    Request("STOR Remote/b", ("WRITE",), "upload"),
    Request("STOR Remote/c", ("FSYNC",), "upload", is_published=True),
    Request("STOR Remote/d", ("LINK", "RENAME", "RENAME2"), "upload", is_published=True),
    Request("APPE Remote/large", ("READ",), "upload"),
]

MENU = [
    Request("SHOW DIRECTORY Remote", ("OPENDIR", "READDIR")),
    Request("SHOW DETAILS", ("LOOKUP",), before="SHOW DIRECTORY Remote"),
    Request("DOWNLOAD FILE Remote/small", ("LOOKUP",)),
    Request("DOWNLOAD FILE Remote/middle", ("OPEN",)),
    Request("DOWNLOAD FILE Remote/large", ("READ",), late=True),
    Request("CHECKSUM FILE Remote/large", ("READ",)),
    Request("MAKE DIRECTORY Remote/newer", ("MKDIR",)),
    Request("PUT FILE 300000 Remote/e", ("TMPFILE", "CREATE"), "upload"),
    Request("PUT FILE 300000 Remote/f", ("WRITE",), "upload"),
    Request("PUT FILE 300000 Remote/g", ("FSYNC",), "upload"),
]


class FtpExchange:
    """A request over FTP that has been sent."""

    def __init__(self, server, request):
        self.client = FtpClient(server.ftp_address, "user2")
        self.local_port = self.client.ftp.sock.getsockname()[1]
        self.data = None
        if request.kind:
            self.data = self.client.connect_data()
        self.before = request.before
        if request.before:
            self.client.send_line(request.before)
        self.client.send_line(request.line)
        if request.kind == "upload":
            self._send_data()

    def _send_data(self):
        """Sends what the server takes: it may not read the data of an upload that hangs."""
        self.data.settimeout(0.3)
        try:
            self.data.sendall(bytes(LENGTH))
            self.data.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def client_timeout(self, seconds):
        self.client.ftp.sock.settimeout(seconds)

    def result(self):
        """Returns the final reply, or the first error."""
        reply = self.client.reply()
        if self.before:
            following = self.client.reply()
            reply = following if reply.startswith("3") else reply
        return self.client.reply() if reply.startswith("1") else reply

    def is_error(self, reply):
        return reply.startswith("451")

    def continues(self):
        """Uses the same session for a file on a fast disk."""
        if self.data:
            self.data.close()
        return self.client.ask("SIZE Shared/small") == "213 1024"

    def close(self):
        if self.data:
            self.data.close()
        self.client.close()


class MenuExchange:
    """A request over the menu that has been sent."""

    ERRORS = ("The file cannot be", "The directory cannot be", "Upload failed: The file cannot be")

    def __init__(self, server, request):
        self.client = MenuClient(server.address).login("user2")
        self.local_port = self.client.socket.getsockname()[1]
        self.late = request.late
        self.before = request.before
        if request.before:
            self.client.send_line(request.before)
        self.client.send_line(request.line)
        if request.kind == "upload":
            self.client.send(bytes(LENGTH))

    def client_timeout(self, seconds):
        self.client.socket.settimeout(seconds)

    def result(self):
        if self.late:
            line = self.client.line()
            while line.startswith("LENGTH ") and self.client.socket.recv(1 << 16):
                pass
            return "closed" if line.startswith("LENGTH ") else line
        line = self.client.line()
        while self.before and line.startswith(("The available", "Please choose")):
            line = self.client.line()
        return line

    def is_error(self, result):
        return result == "closed" or result.startswith(self.ERRORS)

    def continues(self):
        """Uses the same session for a file on a fast disk; one that was closed cannot."""
        return self.late or len(self.client.download("Shared/small")) == 1024

    def close(self):
        self.client.close()


def exchanges():
    """Returns every request, with the class that sends it."""
    return [(FtpExchange, request) for request in FTP] + [(MenuExchange, one) for one in MENU]


def session_ended(server, local_port):
    """Returns whether the log reports the end of the session of a client's port."""
    log = server.log()
    connect = f" event=connect from=127.0.0.1:{local_port}\n"
    check(connect in log, f"no session from port {local_port} in the log")
    session = log.rsplit(connect, 1)[0].rsplit("session=", 1)[1]
    return f" session={session} event=end " in log


def collect(name, function, failures):
    """Runs one check of many; adds what fails, so that the others still run."""
    start = time.monotonic()
    try:
        function()
    except (Failed, OSError) as error:
        seconds = time.monotonic() - start
        failures.append(f"{name}: {error} (after {seconds:.1f} s)")
