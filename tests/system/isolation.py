"""Measures how long a user waits while another user, a slow disk or a hanging one is busy.

    scripts/measure-isolation [--realtime] [--sessions N] [--seconds N] [NAME...]

First, 8,000 FTP sessions of one user repeat one kind of request each: STAT, LIST, MLSD, HASH, SIZE,
RETR of a small and of missing files, MKD, APPE and wrong passwords. Meanwhile the 99th percentile
of another user's NOOP must be below 10 ms. Then a mount is slow, hangs, and is throttled to 20 MB/s
during uploads; NOOP, a small download and a listing on a fast disk must stay below 3 ms, and below
5 ms during the uploads. The rows `undisturbed` are of the same server without the disturbance.

NAME is a row of the table; all are measured by default. Nothing else should run on the machine;
with `--realtime` the event loop runs before other programs, so that little depends on them. The
rows of mounts always do so, and need root. The exit status is 1 if a limit is exceeded.
"""

import argparse
import functools
import sys
import time
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parent))

from client import MenuClient
from faults.mount_case import NEVER, MountHome, MountServer, during_uploads, is_served
from faults.mounts import WRITE_RATE
from faults.requests import exchanges
from latency import measure, prefer
from load import KINDS, LoadProcess
from server import Failed, Server, SharedHome, Skipped, build, check, eventually
from server import raise_descriptor_limit
from slow_mount import SlowDisk, enter_private_mounts

LOAD_LIMIT, MOUNT_LIMIT, THROTTLED_LIMIT = 10.0, 3.0, 5.0  # milliseconds
WARM_UP_SECONDS = 1
ALL = ["noop", "download", "listing"]
NAMES = 300  # files in the listed directory
RELEASE_SECONDS_MAX = 60


class Table:
    """Prints a row per measurement and remembers whether a limit is exceeded."""

    HEADER = ["row", "request", "p50", "p99", "max", "limit", "result"]
    WIDTHS = [18, 10, 9, 9, 9, 7, 0]

    def __init__(self):
        self.failures = 0
        self._print(self.HEADER)

    def _print(self, cells, details=""):
        padded = [f"{cell:<{width}}" for cell, width in zip(cells, self.WIDTHS)]
        print(" ".join([*padded, details]).rstrip(), flush=True)

    def add(self, name, latencies, kinds, limit=None, details=""):
        for kind in kinds:
            times = [f"{value:.2f}" for value in latencies.row(kind)]
            exceeded = limit is not None and latencies.p99(kind) > limit
            self.failures += exceeded
            verdict = ["", ""]
            if limit is not None:
                verdict = [f"{limit:g}", "EXCEEDED" if exceeded else "ok"]
            self._print([name, kind, *times, *verdict], details)

    def note(self, name, result, reason):
        self.failures += result == "FAILED"
        print(f"{name:<18} {result}: {reason}", flush=True)


def measure_load(kind, table, options):
    """Measures NOOP while thousands of sessions of one user repeat a request."""
    grants = ["user1:Movies:read", "user1:Box:read,change"]
    with SharedHome(grants, in_memory=True) as home:
        for number in range(NAMES):
            (home.files / "Movies" / f"a movie of some length {number:03}").touch()
        serve = ["--max-sessions", str(options.sessions + 100)]
        with Server(home, serve) as server:
            if options.realtime:
                prefer(server.child.pid)
            before = server.descriptors()
            load = LoadProcess(server.ftp_address, kind, options.sessions)
            try:
                undisturbed = measure(server, options.seconds / 2)
                load.begin()
                time.sleep(WARM_UP_SECONDS)
                start = time.monotonic()
                latencies = measure(server, options.seconds)
                seconds = WARM_UP_SECONDS + time.monotonic() - start
            finally:
                completed = load.stop()
            table.add("undisturbed", undisturbed, ["noop"])
            released = wait_for_release(server, before)
            details = f"{completed / seconds:.0f}/s, sessions gone after {released:.1f} s"
            table.add(kind.name, latencies, ["noop"], LOAD_LIMIT, details)


def wait_for_release(server, descriptors):
    """Waits until the server has noticed that the sessions have left; returns the seconds."""
    start = time.monotonic()

    def is_released():
        return server.descriptors() < descriptors + 100

    eventually("the end of the sessions", is_released, RELEASE_SECONDS_MAX)
    return time.monotonic() - start


def measure_slow_mount(table, options):
    measure_mount("slow-mount", {"delay": 5}, table, options)


def measure_hanging_mount(table, options):
    measure_mount("hanging-mount", {"hang": "all"}, table, options)


def measure_mount(name, settings, table, options):
    with MountHome() as home, MountServer(home, NEVER) as server:
        table.add("undisturbed", measure(server, options.seconds / 2), ALL)
        home.mount.set(**settings)
        sent = [one(server, request) for one, request in exchanges()]
        latencies = measure(server, options.seconds)
        start = time.monotonic()
        MenuClient(server.address).login("user4").close()
        login, start = time.monotonic() - start, time.monotonic()
        server.reload()
        reload = time.monotonic() - start
        for one in sent:
            one.close()
        home.mount.recover()
        start = time.monotonic()
        eventually("use of the mount", lambda: is_served(server, "Remote"))
        recovery = time.monotonic() - start
        details = f"login {login:.2f} s, reload {reload:.2f} s, served {recovery:.2f} s afterwards"
        table.add(name, latencies, ALL, MOUNT_LIMIT, details)
        check(max(login, reload) <= 1, f"{name}: {details}")


def measure_throttled_mount(table, options):
    with MountHome() as home, MountServer(home) as server:
        measure_uploads("throttled-mount", server, home.mount, table, options)


def measure_throttled_disk(table, options):
    with SharedHome(["user2:Remote:read,change"], in_memory=True) as home:
        with SlowDisk(home.files / "Remote", home.folder) as disk:
            home.mount = disk.mount
            with MountServer(home) as server:
                measure_uploads("throttled-disk", server, disk.mount, table, options)


def measure_uploads(name, server, mount, table, options):
    undisturbed = measure(server, options.seconds / 2)
    table.add("undisturbed", undisturbed, ALL)
    mount.set(write_rate=WRITE_RATE)
    latencies = during_uploads(server, options.seconds)
    table.add(name, latencies, ALL, THROTTLED_LIMIT)


def measurements():
    """Returns the functions that add rows to the table, by name."""
    loads = {kind.name: functools.partial(measure_load, kind) for kind in KINDS}
    return loads | {
        "slow-mount": measure_slow_mount,
        "hanging-mount": measure_hanging_mount,
        "throttled-mount": measure_throttled_mount,
        "throttled-disk": measure_throttled_disk,
    }


def parse_options(names):
    parser = argparse.ArgumentParser(prog="measure-isolation")
    parser.add_argument("--realtime", action="store_true", help="prefer the loop to other programs")
    parser.add_argument("--sessions", type=int, default=8000, help="sessions of the busy user")
    parser.add_argument("--seconds", type=float, default=6, help="length of a measurement")
    parser.add_argument("names", nargs="*", choices=[*names, []], help="rows to measure")
    return parser.parse_args()


def main():
    rows = measurements()
    options = parse_options(rows)
    build()
    raise_descriptor_limit()
    enter_private_mounts()
    table = Table()
    for name in options.names or rows:
        try:
            rows[name](table, options)
        except Skipped as reason:
            table.note(name, "skipped", reason)
        except (Failed, OSError) as error:
            table.note(name, "FAILED", f"{type(error).__name__}: {error}")
    return 1 if table.failures else 0


if __name__ == "__main__":
    sys.exit(main())
