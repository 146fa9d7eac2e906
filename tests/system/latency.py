"""A process that measures how long another user waits for requests on a fast disk."""

import multiprocessing
import os
import threading
import time

from client import FtpClient, MenuClient
from server import TIMEOUT_SECONDS, Failed, SharedHome, check, content, percentile

INTERVAL_SECONDS = 0.005  # between two requests of one kind


def prefer(thread):
    """Lets a thread run before other programs, as far as the system permits that.

    Times then show what the server does, not what else runs on the machine. Threads that it starts
    later are not affected.
    """
    try:
        policy = os.SCHED_RR | os.SCHED_RESET_ON_FORK
        os.sched_setscheduler(thread, policy, os.sched_param(1))
    except PermissionError:
        pass


class Latencies:
    """Times in seconds by kind of request: `noop`, `download` and `listing`."""

    def __init__(self, times):
        self.times = times

    def p99(self, kind):
        """Returns the 99th percentile in milliseconds."""
        return percentile(self.times[kind], 99) * 1000

    def row(self, kind):
        """Returns the median, the 99th percentile and the maximum in milliseconds."""
        return [percentile(self.times[kind], share) * 1000 for share in (50, 99, 100)]

    def __str__(self):
        parts = [f"{kind}={self.p99(kind):.2f}" for kind in self.times]
        return f"p99_milliseconds {' '.join(parts)} of {len(self.times['noop'])}"


class LatencyProbe:
    """Sends each kind of request at fixed times, on a connection of its own, as user3.

    A time counts from when the request was due, so that a server that is blocked for a second
    delays all the requests due in that second, not only the first.
    """

    def __init__(self, server):
        self.stopping = multiprocessing.Event()
        self.started = multiprocessing.Event()
        self.results, results = multiprocessing.Pipe(duplex=False)
        arguments = (server.address, server.ftp_address, results)
        self.process = multiprocessing.Process(target=self._run, args=arguments, daemon=True)
        self.process.start()
        check(self.started.wait(TIMEOUT_SECONDS), "the probe cannot log in")

    def _run(self, menu_address, ftp_address, results):
        prefer(0)
        try:
            with (
                FtpClient(ftp_address, "user3") as ftp,
                MenuClient(menu_address) as download,
                MenuClient(menu_address) as listing,
            ):
                kinds = {
                    "noop": lambda: ftp.command("NOOP"),
                    "download": downloads(download.login("user3")),
                    "listing": lambda: listing.ask("SHOW DIRECTORY Shared", "The available files"),
                }
                listing.login("user3")
                results.send(self._measure(kinds))
        except (Failed, OSError) as error:
            results.send(str(error))

    def _measure(self, kinds):
        times = {kind: [] for kind in kinds}
        errors = []

        def repeat(kind, request):
            prefer(threading.get_native_id())
            due = time.monotonic()
            try:
                while not self.stopping.is_set():
                    request()
                    times[kind].append(time.monotonic() - due)
                    due += INTERVAL_SECONDS
                    time.sleep(max(0, due - time.monotonic()))
            except (Failed, OSError) as error:
                errors.append(f"{kind}: {error}")

        threads = [threading.Thread(target=repeat, args=item) for item in kinds.items()]
        for thread in threads:
            thread.start()
        self.started.set()
        for thread in threads:
            thread.join()
        return "; ".join(errors) or times

    def stop(self):
        """Returns the `Latencies`; fails if a request failed."""
        self.stopping.set()
        check(self.results.poll(2 * TIMEOUT_SECONDS), "the probe does not end")
        result = self.results.recv()
        self.process.join()
        check(isinstance(result, dict), f"the probe: {result}")
        check(all(result.values()), "the probe completed no request")
        return Latencies(result)


def downloads(client):
    expected = content("small", SharedHome.FILES["small"])

    def download():
        check(client.download("Shared/small") == expected, "the probe received other bytes")

    return download


def measure(server, seconds):
    """Returns the `Latencies` during the next seconds."""
    probe = LatencyProbe(server)
    time.sleep(seconds)
    return probe.stop()
