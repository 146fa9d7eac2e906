#!/usr/bin/env python3
"""FTP's data connections, measured and proved against a server of its own.

    scripts/measure-ftp idle         resident bytes of an idle session that has logged in
    scripts/measure-ftp concurrent   300 RETR and STOR of 10 MiB at once, each proved by its hash
    scripts/measure-ftp globs        a NOOP's time beside a session that lists by patterns made to be slow, without pause
    scripts/measure-ftp ports        transfers a second from 200 loopback addresses, through 10 ports and through 1,000

Builds the server with --release. Everything goes over loopback; the home lies in memory where there is room for that.
"""

import hashlib
import os
import resource
import socket
import subprocess
import sys
import tempfile
import threading
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
IDLE_BYTES_MAX = 768
IDLE_SESSIONS = 4000
CONCURRENT = 300
FILE_BYTES = 10 * 1024 * 1024
ADDRESSES = 200
SECONDS = 5
NOOP_P99_MILLISECONDS_MAX = 50


class Server:
    """A server over a home of its own, of one user who may do everything."""

    def __init__(self, *options):
        memory = "/dev/shm" if os.path.isdir("/dev/shm") else None
        self.folder = tempfile.TemporaryDirectory(dir=memory)
        home = self.folder.name
        self.files = os.path.join(home, "files", "Box")
        os.makedirs(self.files)
        with open(os.path.join(home, "Credentials"), "w") as file:
            file.write("ann:plain:secret\n")
        os.chmod(file.name, 0o600)
        with open(os.path.join(home, "Directories"), "w") as file:
            file.write("ann:Box:read,change\n")
        program = os.path.join(ROOT, "target", "release", "tidegate")
        command = [program, "serve", home, "--ftp", "127.0.0.1:0", "--log-level", "error", *options]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        self.port = int(line.split(":")[1].split(" ")[0])

    def rss(self):
        with open(f"/proc/{self.process.pid}/status") as status:
            for line in status:
                if line.startswith("VmRSS:"):
                    return int(line.split()[1]) * 1024

    def cpu(self):
        with open(f"/proc/{self.process.pid}/stat") as stat:
            fields = stat.read().rsplit(") ", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self):
        self.process.terminate()
        self.process.wait()
        self.folder.cleanup()


class Client:
    """One session, its replies awaited one by one."""

    def __init__(self, server, address="127.0.0.1"):
        self.address = address
        self.socket = socket.create_connection(
            ("127.0.0.1", server.port), timeout=120, source_address=(address, 0)
        )
        self.rest = b""
        self.expect("220")
        self.ask("USER ann", "331")
        self.ask("PASS secret", "230")
        self.ask("TYPE I", "200")

    def expect(self, code):
        while b"\n" not in self.rest:
            more = self.socket.recv(4096)
            assert more, "the server has closed the connection"
            self.rest += more
        line, self.rest = self.rest.split(b"\n", 1)
        line = line.decode()
        assert line.startswith(code and code + " "), line
        return line

    def ask(self, line, code):
        self.socket.sendall(line.encode() + b"\r\n")
        return self.expect(code)

    def data(self):
        port = int(self.ask("EPSV", "229").split("|")[3])
        return socket.create_connection(
            ("127.0.0.1", port), timeout=120, source_address=(self.address, 0)
        )

    def retrieve(self, name, take):
        data = self.data()
        self.socket.sendall(f"RETR {name}\r\n".encode())
        while piece := data.recv(262144):
            take(piece)
        data.close()
        self.expect("150")
        self.expect("226")

    def store(self, name, content):
        data = self.data()
        self.ask(f"STOR {name}", "150")
        data.sendall(content)
        data.close()
        self.expect("226")


def idle():
    """Sessions that have logged in, and transferred something once, and wait."""
    server = Server("--max-sessions", "20000")
    with open(os.path.join(server.files, "small"), "wb") as file:
        file.write(b"x" * 4096)
    used = [Client(server) for _ in range(100)]  # whatever is made once is made by now
    for client in used:
        client.retrieve("Box/small", lambda _: None)
    before = server.rss()
    clients = [Client(server) for _ in range(IDLE_SESSIONS)]
    time.sleep(2)
    each = (server.rss() - before) / len(clients)
    print(f"{len(clients)} idle FTP sessions: {each:.0f} resident bytes each")
    server.stop()
    assert each <= IDLE_BYTES_MAX, f"more than {IDLE_BYTES_MAX}"


def concurrent():
    """Many large files both ways at once."""
    server = Server()
    content = os.urandom(FILE_BYTES)
    wanted = hashlib.sha256(content).digest()
    with open(os.path.join(server.files, "large"), "wb") as file:
        file.write(content)
    clients = [Client(server) for _ in range(CONCURRENT)]
    failures = []

    def move(number, client):
        try:
            digest = hashlib.sha256()
            if number % 2 == 0:
                client.retrieve("Box/large", digest.update)
            else:
                client.store(f"Box/stored-{number}", content)
                path = os.path.join(server.files, f"stored-{number}")
                with open(path, "rb") as file:
                    digest = hashlib.file_digest(file, "sha256")
                os.remove(path)
            assert digest.digest() == wanted, "another hash"
        except Exception as error:  # every one is told
            failures.append(f"{number}: {error}")

    began = time.monotonic()
    threads = [threading.Thread(target=move, args=item) for item in enumerate(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = time.monotonic() - began
    rate = CONCURRENT * FILE_BYTES / took / 2**20
    print(f"{CONCURRENT} RETR and STOR of {FILE_BYTES} bytes at once: {took:.1f} s, {rate:.0f} MiB/s, "
          f"{CONCURRENT - len(failures)} proved by hash")
    server.stop()
    assert not failures, failures[:5]


def transfers(ports):
    """Transfers a second of one small file from many addresses, and the server's CPU for each."""
    server = Server("--passive-ports", ports)
    with open(os.path.join(server.files, "small"), "wb") as file:
        file.write(b"x" * 1024)
    clients = [
        Client(server, f"127.0.{1 + number // 100}.{1 + number % 100}") for number in range(ADDRESSES)
    ]
    pieces = iter([clients[number::4] for number in range(4)])
    done, failures, until = [], [], [0.0]

    def rounds(some):
        count = 0
        try:
            while time.monotonic() < until[0]:
                for client in some:
                    client.retrieve("Box/small", lambda _: None)
                    count += 1
        except Exception as error:  # every one is told
            failures.append(str(error))
        done.append(count)

    threads = [threading.Thread(target=rounds, args=(some,)) for some in pieces]
    cpu, began = server.cpu(), time.monotonic()
    until[0] = began + SECONDS
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    rate = sum(done) / (time.monotonic() - began)
    micros = (server.cpu() - cpu) / max(sum(done), 1) * 1e6
    print(f"ports {ports}: {rate:.0f} transfers a second, {micros:.0f} us of the server's CPU each")
    server.stop()
    assert not failures, failures[:5]
    return rate


def ports():
    """Through few ports and through many, in turns."""
    few, many = [], []
    for _ in range(3):
        few.append(transfers("20000-20009"))
        many.append(transfers("20000-20999"))
    few, many = sorted(few)[1], sorted(many)[1]
    print(f"medians: {few:.0f} through 10 ports, {many:.0f} through 1,000")
    assert few >= 0.9 * many, "a small range runs out"


def globs():
    """What somebody else waits beside patterns that take other servers minutes."""
    server = Server()
    for number in range(1000):
        with open(os.path.join(server.files, "a" * 250 + f"{number:03}"), "w"):
            pass
    bombs = ["*a" * 127, "*" + "a" * 250 + "b", "*a*" * 80 + "b"]
    until = time.monotonic() + SECONDS
    listings = []

    def list_on(client):
        while time.monotonic() < until:
            for bomb in bombs:
                data = client.data()
                client.socket.sendall(f"NLST Box/{bomb}\r\n".encode())
                if client.expect("").startswith("150"):
                    while data.recv(262144):
                        pass
                    client.expect("226")
                data.close()
                listings.append(bomb)

    bomber = threading.Thread(target=list_on, args=(Client(server),))
    other, times = Client(server), []
    bomber.start()
    while time.monotonic() < until:
        asked = time.monotonic()
        other.ask("NOOP", "200")
        times.append(time.monotonic() - asked)
        time.sleep(0.001)
    bomber.join()
    p99 = sorted(times)[len(times) * 99 // 100] * 1000
    print(f"beside {len(listings)} listings by such patterns: {len(times)} NOOPs, p99 {p99:.1f} ms")
    server.stop()
    assert p99 < NOOP_P99_MILLISECONDS_MAX, f"not within {NOOP_P99_MILLISECONDS_MAX} ms"


def main():
    parts = {"idle": idle, "concurrent": concurrent, "globs": globs, "ports": ports}
    if len(sys.argv) != 2 or sys.argv[1] not in parts:
        sys.exit(__doc__)
    build = ["cargo", "build", "--release", "--quiet"]
    subprocess.run(build, cwd=ROOT, check=True)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    parts[sys.argv[1]]()


main()
