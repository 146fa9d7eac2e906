"""Measures FTP sessions and data connections.

    scripts/measure-ftp idle         resident memory of an idle session after its login
    scripts/measure-ftp concurrent   300 RETR and STOR of 10 MiB at once, each verified by its hash
    scripts/measure-ftp globs        latency of NOOP while another session lists by slow patterns
    scripts/measure-ftp ports        transfers per second of 200 loopback addresses, with 10 passive
                                     ports and with 1,000

Builds the server with --release. The home is in /dev/shm if that exists. The exit status is not 0
if a limit is exceeded.
"""

import hashlib
import os
import sys
import threading
import time

sys.dont_write_bytecode = True

from client import FtpClient
from server import MIB, Failed, Home, Server, build, check, percentile, raise_descriptor_limit

IDLE_BYTES_MAX = 768
IDLE_SESSIONS = 4000
CONCURRENT = 300
FILE_BYTES = 10 * MIB
ADDRESSES = 200
SECONDS = 5
NOOP_P99_MILLISECONDS_MAX = 50


class FtpServer(Server):
    """A server with one user who may do everything in the directory Box."""

    def __init__(self, *options):
        self.home = Home({"ann": "secret"}, ["ann:Box:read,change"], in_memory=True)
        self.box = self.home.files / "Box"
        super().__init__(self.home, ["--log-level", "error", *options], menu=None)

    def client(self, source="127.0.0.1"):
        return FtpClient(self.ftp_address, "ann", "secret", source, timeout=120)

    def __exit__(self, *arguments):
        super().__exit__(*arguments)
        self.home.remove()


def run_threads(function, arguments):
    """Calls a function in a thread for each argument; fails if a call fails."""
    failures = []

    def run(argument):
        try:
            function(argument)
        except (Failed, OSError, EOFError) as error:
            failures.append(str(error))

    threads = [threading.Thread(target=run, args=(argument,)) for argument in arguments]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    check(not failures, f"{len(failures)} failures, the first: {failures[:5]}")


def idle():
    with FtpServer("--max-sessions", "20000") as server:
        (server.box / "small").write_bytes(b"x" * 4096)
        # Makes the server allocate what it keeps.
        active = [server.client() for _ in range(100)]
        for client in active:
            client.retrieve("RETR Box/small")
        before = server.memory_kib()
        clients = [server.client() for _ in range(IDLE_SESSIONS)]
        time.sleep(2)
        growth = (server.memory_kib() - before) * 1024 / len(clients)
    print(f"{len(clients)} idle FTP sessions: {growth:.0f} resident bytes each")
    check(growth <= IDLE_BYTES_MAX, f"more than {IDLE_BYTES_MAX}")


def concurrent():
    content = os.urandom(FILE_BYTES)
    expected = hashlib.sha256(content).digest()

    def transfer(numbered):
        number, client = numbered
        digest = hashlib.sha256()
        if number % 2 == 0:
            client.retrieve("RETR Box/large", digest.update)
        else:
            reply = client.put(f"Box/stored-{number}", content)
            check(reply.startswith("226"), reply)
            path = server.box / f"stored-{number}"
            digest.update(path.read_bytes())
            path.unlink()
        check(digest.digest() == expected, f"transfer {number} has another hash")

    with FtpServer() as server:
        (server.box / "large").write_bytes(content)
        clients = [server.client() for _ in range(CONCURRENT)]
        start = time.monotonic()
        run_threads(transfer, list(enumerate(clients)))
        seconds = time.monotonic() - start
    rate = CONCURRENT * FILE_BYTES / seconds / MIB
    transfers = f"{CONCURRENT} RETR and STOR of {FILE_BYTES} bytes at once"
    print(f"{transfers}: {seconds:.1f} s, {rate:.0f} MiB/s, all verified by hash")


def measure_transfers(ports):
    """Returns transfers per second of one small file from many addresses."""
    counts = []

    def transfer(clients):
        count = 0
        while time.monotonic() < deadline:
            for client in clients:
                client.retrieve("RETR Box/small")
                count += 1
        counts.append(count)

    with FtpServer("--passive-ports", ports) as server:
        (server.box / "small").write_bytes(b"x" * 1024)
        addresses = [f"127.0.{1 + n // 100}.{1 + n % 100}" for n in range(ADDRESSES)]
        clients = [server.client(address) for address in addresses]
        cpu, start = server.cpu(), time.monotonic()
        deadline = start + SECONDS
        run_threads(transfer, [clients[number::4] for number in range(4)])
        rate = sum(counts) / (time.monotonic() - start)
        micros = (server.cpu() - cpu) / max(sum(counts), 1) * 1e6
    print(f"ports {ports}: {rate:.0f} transfers per second, {micros:.0f} us of CPU time each")
    return rate


def ports():
    rates = {"20000-20009": [], "20000-20999": []}
    for _ in range(3):
        for range_of_ports, values in rates.items():
            values.append(measure_transfers(range_of_ports))
    few, many = (sorted(values)[1] for values in rates.values())
    print(f"medians: {few:.0f} with 10 ports, {many:.0f} with 1,000")
    check(few >= 0.9 * many, "a small range of ports is slower")


def globs():
    patterns = ["*a" * 127, "*" + "a" * 250 + "b", "*a*" * 80 + "b"]
    listings = []

    def list_repeatedly(client):
        while time.monotonic() < deadline:
            for pattern in patterns:
                try:
                    client.retrieve(f"NLST Box/{pattern}")
                except Failed:
                    pass  # no name matches
                listings.append(pattern)

    times = []
    with FtpServer() as server:
        for number in range(1000):
            (server.box / f"{'a' * 250}{number:03}").touch()
        lister, other = server.client(), server.client()
        deadline = time.monotonic() + SECONDS
        thread = threading.Thread(target=list_repeatedly, args=(lister,))
        thread.start()
        while time.monotonic() < deadline:
            start = time.monotonic()
            other.command("NOOP")
            times.append(time.monotonic() - start)
            time.sleep(0.001)
        thread.join()
    p99 = percentile(times, 99) * 1000
    print(f"{len(times)} NOOPs during {len(listings)} listings by slow patterns: p99 {p99:.1f} ms")
    check(p99 < NOOP_P99_MILLISECONDS_MAX, f"more than {NOOP_P99_MILLISECONDS_MAX} ms")


def main():
    measurements = {"idle": idle, "concurrent": concurrent, "globs": globs, "ports": ports}
    if len(sys.argv) != 2 or sys.argv[1] not in measurements:
        sys.exit(__doc__.strip())
    build()
    raise_descriptor_limit()
    try:
        measurements[sys.argv[1]]()
    except Failed as error:
        sys.exit(f"measure-ftp: {error}")


if __name__ == "__main__":
    main()
