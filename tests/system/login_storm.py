"""Measures logins and downloads of other users during a brute-force attack.

    scripts/measure-storm [SERVER-OPTION...]

Guesses 10,000 passwords from 50 addresses, as fast as the server answers. Meanwhile the login of
another user, whose password the server has not verified before, takes at most one second, and the
p99 of small downloads is at most three times that without the attack, measured before and after.
There are three attacks, each on a new server; every login counts, and the median of the ratios.
With `--max-failures 0` no guess is blocked, so that each password is verified. Nothing else should
run on the machine; the attacker shares it with the server, at a slightly lower priority.
"""

import multiprocessing
import os
import selectors
import socket
import statistics
import subprocess
import sys
import time

sys.dont_write_bytecode = True

from client import MenuClient
from server import Home, Server, build, percentile, program

GUESSES, ADDRESSES, CONCURRENT, USERS, STORMS = 10_000, 50, 200, 60, 3
LOGIN_SECONDS_MAX, RATIO_MAX, STORM_SECONDS_MAX = 1.0, 3.0, 90.0
UNDISTURBED_SECONDS = 6.0  # before and after an attack
PROBE_SECONDS = 0.5  # between two logins during an attack


class Attacker:
    """Guesses passwords with a bounded number of connections at the same time."""

    def __init__(self, address):
        self.address = address
        self.poll = selectors.DefaultSelector()
        self.started = self.answered = self.failed = self.blocked = 0

    def run(self):
        """Returns the numbers of answered, failed and blocked guesses, and the seconds."""
        start = time.monotonic()
        while self.answered < GUESSES and time.monotonic() - start < STORM_SECONDS_MAX:
            while self.started < GUESSES and self.started - self.answered < CONCURRENT:
                self.connect()
            for key, _ in self.poll.select(1):
                self.advance(key.fileobj, key.data)
        return self.answered, self.failed, self.blocked, time.monotonic() - start

    def connect(self):
        client = socket.socket()
        client.setblocking(False)
        client.bind((f"127.0.9.{1 + self.started % ADDRESSES}", 0))
        client.connect_ex(self.address)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        guess = f"LOGIN\nuser{self.started % USERS}\nguess {self.started}\nQUIT\n"
        state = {"unsent": guess.encode(), "received": b""}
        self.poll.register(client, selectors.EVENT_READ, state)
        self.started += 1

    def advance(self, client, state):
        try:
            data = client.recv(65536)
            state["received"] += data
            if state["unsent"] and state["received"]:
                client.sendall(state["unsent"])
                state["unsent"] = b""
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.answered += 1
            self.failed += b"Login Failed" in state["received"]
            self.blocked += b"try again later" in state["received"]
            self.poll.unregister(client)
            client.close()


def attack(address, results):
    os.nice(5)
    results.put(Attacker(address).run())


def login(address, source, user):
    return MenuClient(address, source=source).login(user, f"password of {user}")


def download_times(address, seconds):
    """Downloads a small file repeatedly and returns the time of each download."""
    times = []
    with login(address, "127.0.0.3", "user0") as client:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            start = time.perf_counter()
            client.download("Movies/Small")
            times.append(time.perf_counter() - start)
            time.sleep(0.001)
    return times


def measure_during(address, results):
    """Returns the times of logins and of downloads until the attack is over."""
    logins, downloads = [], []
    for user in range(1, USERS):
        start = time.monotonic()
        login(address, "127.0.0.2", f"user{user}").close()
        seconds = time.monotonic() - start
        times = download_times(address, PROBE_SECONDS)
        if results.qsize():
            break  # the last measurements may be later than the attack
        logins.append(seconds)
        downloads += times
    return logins, downloads


def run_storm(home):
    """Returns the time of the slowest login, and the ratio of the p99 of small downloads."""
    options = ["--log-level", "error", *sys.argv[1:]]
    with Server(home, options, ftp=None) as server:
        undisturbed = download_times(server.address, UNDISTURBED_SECONDS)
        results = multiprocessing.Queue()
        attacker = multiprocessing.Process(target=attack, args=(server.address, results))
        attacker.start()
        logins, during = measure_during(server.address, results)
        answered, failed, blocked, seconds = results.get(timeout=STORM_SECONDS_MAX + 30)
        attacker.join()
        undisturbed += download_times(server.address, UNDISTURBED_SECONDS)
    print(f"attack: {answered} guesses in {seconds:.1f} s, {failed} failed, {blocked} blocked")
    if answered < GUESSES and not failed:
        sys.exit("measure-storm: no guess was answered")
    if not logins or not during:
        sys.exit("measure-storm: the attack ended before anything was measured")
    before, after = percentile(undisturbed, 99), percentile(during, 99)
    print(f"other users: {len(logins)} logins, the slowest {max(logins):.3f} s")
    print(
        f"small downloads: p99 {before * 1000:.2f} ms of {len(undisturbed)} without the attack, "
        f"{after * 1000:.2f} ms of {len(during)} during it: {after / before:.2f} times"
    )
    return max(logins), after / before


def add_hashed_passwords(home):
    """Replaces the passwords of the home by hashes."""
    (home.path / "Credentials").write_text("")
    for number in range(USERS):
        command = [program(), "user", "add", home.path, f"user{number}", "--password-stdin"]
        password = f"password of user{number}\n".encode()
        subprocess.run(command, input=password, check=True, stdout=subprocess.DEVNULL)


def main():
    build()
    with Home({}, ["*:Movies:read"]) as home:
        add_hashed_passwords(home)
        (home.files / "Movies/Small").write_bytes(b"x" * 4096)
        slowest, ratios = zip(*(run_storm(home) for _ in range(STORMS)))
    ratio = statistics.median(ratios)
    print(f"slowest login: {max(slowest):.3f} s; median of the ratios: {ratio:.2f}")
    if max(slowest) > LOGIN_SECONDS_MAX or ratio > RATIO_MAX:
        sys.exit("measure-storm: a limit is exceeded")


if __name__ == "__main__":
    main()
