"""Clients of the menu and of FTP, and a probe that measures the latency of small downloads."""

import ftplib
import io
import multiprocessing
import socket
import struct
import time

from server import TIMEOUT_SECONDS, Failed, SharedHome, check, content, percentile

READ_BYTES = 1 << 18


def reset(connection):
    """Closes a socket with RST instead of FIN."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


class MenuClient:
    """One menu session. A call that blocks for longer than TIMEOUT_SECONDS fails."""

    def __init__(self, address, receive_buffer=None, source=None):
        self.socket = socket.socket()
        self.socket.settimeout(TIMEOUT_SECONDS)
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        if source:
            self.socket.bind((source, 0))
        self.socket.connect(address)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""

    def send(self, data):
        self.socket.sendall(data)

    def send_line(self, line):
        self.send(line.encode() + b"\n")

    def line(self):
        """Returns the next line, or None at the end of input."""
        while b"\n" not in self.buffer:
            data = self.socket.recv(READ_BYTES)
            if not data:
                return None
            self.buffer += data
        line, self.buffer = self.buffer.split(b"\n", 1)
        return line.decode()

    def until(self, prefix):
        """Reads lines up to one that starts with `prefix` and returns that line."""
        seen = []
        while True:
            line = self.line()
            check(line is not None, f"closed before '{prefix}', after {seen[-3:]}")
            if line.startswith(prefix):
                return line
            seen.append(line)

    def until_menu(self):
        return self.until("Please choose: ")

    def bytes(self, count):
        """Returns `count` bytes, or fewer at the end of input."""
        pieces = [self.buffer[:count]]
        self.buffer = self.buffer[count:]
        remaining = count - len(pieces[0])
        while remaining > 0:
            data = self.socket.recv(min(remaining, READ_BYTES))
            if not data:
                break
            pieces.append(data)
            remaining -= len(data)
        return b"".join(pieces)

    def login(self, user="user1", password=None):
        """Logs in; the password of userN is passN unless given."""
        password = password or user.replace("user", "pass")
        self.send_line(f"LOGIN\n{user}\n{password}")
        self.until_menu()
        return self

    def ask(self, command, prefix=""):
        """Sends a command, reads up to the next menu and returns the line with the prefix."""
        self.send_line(command)
        line = self.until(prefix)
        self.until_menu()
        return line

    def download(self, path):
        self.send_line(f"DOWNLOAD FILE {path}")
        length = int(self.until("LENGTH ").split()[1])
        data = self.bytes(length)
        check(len(data) == length, f"{path}: {len(data)} of {length} bytes")
        self.until_menu()
        return data

    def put(self, path, data):
        """Uploads a file and returns the result line, or None if the server closes without one."""
        try:
            self.send(b"PUT FILE %d %s\n" % (len(data), path.encode()) + data)
        except (BrokenPipeError, ConnectionResetError):
            pass  # a line sent before the close can still be read
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
    """One FTP session in binary mode. Protocol errors raise `Failed`."""

    def __init__(self, address, user, password=None, source=None, timeout=TIMEOUT_SECONDS):
        password = password or user.replace("user", "pass")
        self.ftp = ftplib.FTP()
        self._try(self.ftp.connect, *address, timeout, source and (source, 0))
        self._try(self.ftp.login, user, password)
        self._try(self.ftp.voidcmd, "TYPE I")

    def _try(self, function, *arguments):
        try:
            return function(*arguments)
        except (ftplib.Error, EOFError) as error:
            raise Failed(f"FTP: {error!r}") from None

    def command(self, line):
        """Sends a command; fails unless the reply is 2xx."""
        return self._try(self.ftp.voidcmd, line)

    def send_line(self, line):
        self._try(self.ftp.putline, line)

    def reply(self):
        """Returns the next reply, whatever its code."""
        return self._try(self.ftp.getmultiline)

    def ask(self, line):
        """Sends a command and returns its reply, which may be a refusal."""
        self.send_line(line)
        return self.reply()

    def connect_data(self):
        """Makes a data connection for the next command."""
        address = self._try(self.ftp.makepasv)
        return socket.create_connection(address, self.ftp.timeout)

    def data(self, command):
        """Starts a transfer and returns its data connection."""
        return self._try(self.ftp.transfercmd, command)

    def retrieve(self, command, receive=lambda piece: None):
        """Passes the data of a RETR or a listing to `receive` piece by piece."""
        with self.data(command) as data:
            while piece := data.recv(READ_BYTES):
                receive(piece)
        self._try(self.ftp.voidresp)

    def download(self, path):
        pieces = []
        self.retrieve(f"RETR {path}", pieces.append)
        return b"".join(pieces)

    def put(self, path, data):
        """Uploads a file and returns the final reply, which may be a refusal."""

        def store():
            try:
                return self.ftp.storbinary(f"STOR {path}", io.BytesIO(data))
            except (ftplib.error_temp, ftplib.error_perm) as refusal:
                return str(refusal)

        return self._try(store)

    def abort(self):
        """Sends ABOR during a transfer and returns the transfer's reply and that of ABOR."""
        self.send_line("ABOR")
        return [self.reply() for _ in range(2)]

    def reset(self):
        self.ftp.file.close()  # it holds a reference to the socket
        reset(self.ftp.sock)

    def close(self):
        self.ftp.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Probe:
    """A process that downloads a small file of a `SharedHome` repeatedly and measures each time."""

    def __init__(self, address):
        self.stopping = multiprocessing.Event()
        self.started = multiprocessing.Event()
        self.results, results = multiprocessing.Pipe(duplex=False)
        arguments = (address, results)
        self.process = multiprocessing.Process(target=self._run, args=arguments, daemon=True)
        self.process.start()
        check(self.started.wait(TIMEOUT_SECONDS), "the probe cannot log in")

    def _run(self, address, results):
        times = []
        expected = content("small", SharedHome.FILES["small"])
        try:
            with MenuClient(address) as client:
                client.login("user3")
                self.started.set()
                while not self.stopping.is_set():
                    start = time.monotonic()
                    data = client.download("Shared/small")
                    times.append(time.monotonic() - start)
                    check(data == expected, "the probe received other bytes")
                    time.sleep(0.002)
            results.send((times, None))
        except (Failed, OSError) as error:
            results.send((times, str(error)))

    def stop(self):
        """Returns the number of downloads and their 99th percentile in milliseconds."""
        self.stopping.set()
        check(self.results.poll(TIMEOUT_SECONDS + 5), "the probe does not end")
        times, error = self.results.recv()
        self.process.join()
        check(error is None, f"the probe: {error}")
        check(times, "the probe completed no download")
        return len(times), percentile(times, 99) * 1000
