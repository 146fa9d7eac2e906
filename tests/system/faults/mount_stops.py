"""Servers that stop or start while a mount does not answer."""

import fcntl
import signal
import socket
import time

from client import MenuClient
from faults.case import register
from faults.mount_case import (
    NEVER,
    MountHome,
    MountServer,
    check_latencies,
    check_other_users,
    eventually_served,
    is_served,
    timed,
)
from faults.requests import LENGTH, exchanges
from latency import LatencyProbe
from server import check, eventually

STOP_SECONDS_MAX = 1.2  # in addition to the drain timeout: a second, and some to notice it


def stop_during_a_hang(name, prepare, drain_timeout=2, signals=1):
    """Registers a case that stops a server while requests hang, as `prepare` leaves them.

    A second signal does not wait for the drain timeout.
    """

    def run():
        options = ["--drain-timeout", str(drain_timeout), *NEVER]
        with MountHome() as home, MountServer(home, options) as server:
            kept = prepare(server, home)
            seconds_max = STOP_SECONDS_MAX + (drain_timeout if signals == 1 else 0)
            details = check_stop(server, home, seconds_max, signals)
            del kept
            return details

    register(name, run)


def check_stop(server, home, seconds_max, signals):
    """Stops a server whose mount hangs, and starts another on the same ports."""
    menu, ftp = (f"{host}:{port}" for host, port in (server.address, server.ftp_address))
    idle = MenuClient(server.address)
    idle.login("user3")
    start = time.monotonic()
    server.signal(signal.SIGTERM)
    if signals == 2:
        eventually("the drain", lambda: "event=drain" in server.log())
        server.signal(signal.SIGTERM)

    def is_released():
        return not server.is_running() or not any(
            [accepts(server.address), accepts(server.ftp_address), pid_is_locked(home)]
        )

    eventually("the release of ports and lock", is_released, seconds_max + 5)
    seconds = time.monotonic() - start
    check(seconds <= seconds_max, f"ports and lock were released after {seconds:.1f} s")
    while idle.socket.recv(1 << 16):
        pass  # its goodbye, and the end
    pid = (home.path / ".tidegate.pid").read_text() if has_pid_file(home) else ""
    check(not pid.strip(), f"the pid file still has {pid!r}")
    time.sleep(max(0, seconds_max - seconds))
    survives = server.is_running()
    with MountServer(home, NEVER, menu=menu, ftp=ftp) as second:
        check(is_served(second, "Shared"), "the next server on the same ports")
        home.mount.abort()
        start = time.monotonic()
        server.child.wait(5)
        expected = 0 if signals == 1 else 1
        check(server.child.returncode == expected, f"exit status {server.child.returncode}")
        second.stop()
    exit_kind = "exits when the mount is aborted" if survives else "exits"
    return f"released after {seconds:.1f} s; the process {exit_kind}; the next one serves"


def accepts(address):
    try:
        socket.create_connection(address, 1).close()
        return True
    except OSError:
        return False


def has_pid_file(home):
    return (home.path / ".tidegate.pid").exists()


def pid_is_locked(home):
    """Returns whether another process has the lock of the home."""
    try:
        with open(home.path / ".tidegate.pid", "r+b") as file:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return False
    except FileNotFoundError:
        return False
    except OSError:
        return True


def hang_reads(server, home):
    home.mount.set(hang=["READ"])
    clients = []
    for _ in range(4):
        clients.append(MenuClient(server.address).login("user2"))
        clients[-1].send_line("DOWNLOAD FILE Remote/large")
        clients.append(MenuClient(server.address).login("user2"))
        clients[-1].send_line("CHECKSUM FILE Remote/middle")
    home.mount.until_waiting("READ")
    return clients


def hang_uploads(server, home):
    home.mount.set(hang=["WRITE", "FSYNC"])
    clients = []
    for number in range(4):
        clients.append(MenuClient(server.address).login("user2"))
        clients[-1].send(b"PUT FILE %d Remote/%d\n" % (LENGTH, number) + bytes(LENGTH))
    home.mount.until_waiting("WRITE", "FSYNC")
    return clients


def hang_everything(server, home):
    home.mount.set(hang="all")
    sent = [one(server, request) for one, request in exchanges()]
    home.mount.until_waiting()
    return sent


stop_during_a_hang("stop_while_reads_hang", hang_reads)
stop_during_a_hang("stop_while_uploads_hang", hang_uploads)
stop_during_a_hang("stop_while_everything_hangs", hang_everything)
stop_during_a_hang("second_stop_while_reads_hang", hang_reads, drain_timeout=60, signals=2)


def start_with_a_hanging_mount():
    """The granted directory hangs before the server starts."""
    with MountHome() as home:
        home.mount.set(hang="all")
        start = time.monotonic()
        with MountServer(home, ["--disk-timeout", "2"]) as server:
            seconds = time.monotonic() - start
            check(seconds <= 3, f"the start took {seconds:.1f} s")
            probe = LatencyProbe(server)
            with MenuClient(server.address) as client:
                client.send_line("LOGIN\nuser2\nwrong")
                client.until("Login Failed")
                timed("a second login", lambda: client.login("user2"), 3)
                expected = f"SHA-256 {home.hashes['middle']} middle"
                result = client.ask("CHECKSUM FILE Shared/middle")
                check(result == expected, f"a checksum: {result}")
            others = check_other_users(server, home)
            latencies = probe.stop()
            check_latencies(latencies)
            home.mount.recover()
            eventually_served(server)
            server.stop()
    return f"listening after {seconds:.1f} s; {others}; {latencies}"


register("start_with_a_hanging_mount", start_with_a_hanging_mount)
