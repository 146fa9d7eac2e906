"""How a case of fault injection runs: its server, the probe, and the checks afterwards."""

import os
import subprocess

from client import MenuClient, Probe
from fault_injection import FaultInjector
from server import TIMEOUT_SECONDS, Failed, Server, SharedHome, Skipped, check, content, eventually

P99_MILLISECONDS_MAX = 1000  # of a small download during any fault
PASSIVE_LISTENERS_MAX = 16  # that stay open without --passive-ports
MEMORY_KIB_MAX = 24 * 1024  # freed memory that the allocator may keep
GREETING = "Please choose 'LOGIN' or 'QUIT'"
COMPLETE = "Upload complete: "
NO_ROOM = "There is not enough room for that file"

CASES = {}


def register(name, function):
    CASES[name.replace("_", "-")] = function


def with_probe(limits=(), injector=False, disk=None):
    """Registers a case that runs against one server while a probe downloads from it.

    The case gets the server, the home and, with `injector`, the `FaultInjector`. With `disk`, Inbox
    is a file system of that size.
    """

    def decorate(case):
        def run():
            home = SharedHome()
            try:
                return run_with_probe(case, home, limits, injector, disk)
            finally:
                if os.path.ismount(home.inbox):
                    subprocess.run(["umount", "--lazy", home.inbox], check=True)
                home.remove()

        register(case.__name__, run)
        return case

    return decorate


def run_with_probe(case, home, limits, injector, disk):
    arguments = [home]
    environment = None
    if injector:
        arguments.append(FaultInjector(home))
        environment = arguments[1].environment
    if disk:
        mount(home.inbox, disk)
    with Server(home, limits=limits, environment=environment) as server:
        warm_up(server, home)
        memory, descriptors = server.memory_kib(), server.descriptors()
        listeners = server.listeners()
        # Started before the clients of the case: a forked process inherits all open sockets.
        probe = Probe(server.address)
        details = case(server, *arguments)
        count, p99 = probe.stop()
        check(server.is_running(), f"the server has exited: {server.log()[-300:]}")
        # An FTP session waits up to 30 seconds for a data connection, even if the client has left.
        eventually(
            "closing of descriptors",
            lambda: server.descriptors() - (server.listeners() - listeners) <= descriptors,
            2 * TIMEOUT_SECONDS,
        )
        # Some passive listeners stay open for the next transfers.
        more = server.listeners() - listeners
        check(more <= PASSIVE_LISTENERS_MAX, f"{more} passive listeners stay open")
        growth = server.memory_kib() - memory
        check(growth <= MEMORY_KIB_MAX, f"the memory has grown by {growth} KiB")
        check(not home.temporary_names(), f"left over: {home.temporary_names()}")
        check(p99 <= P99_MILLISECONDS_MAX, f"the p99 of a small download was {p99:.0f} ms")
        server.stop()
    probe_details = f"probe={count} p99_milliseconds={p99:.2f}"
    return f"{details}; {probe_details} memory_kib={growth:+} descriptors=+0"


def warm_up(server, home):
    """Makes the server allocate what it keeps, before memory and descriptors are measured."""
    with MenuClient(server.address) as client:
        client.login("user2")
        for file in home.FILES:
            client.download(f"Shared/{file}")
        check(client.put("Inbox/warm", b"up").startswith(COMPLETE), "an upload without a fault")
    os.remove(home.inbox / "warm")
    eventually("the end of the first session", lambda: server.log().count(" event=end ") == 1)


def alone(case):
    """Registers a case that starts its own servers; it gets a home."""

    def run():
        with SharedHome() as home:
            return case(home)

    register(case.__name__, run)
    return case


def mount(path, size):
    command = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=755", "tmpfs", path]
    mounted = subprocess.run(command, capture_output=True, text=True)
    if mounted.returncode != 0:
        raise Skipped(f"needs the right to mount: {mounted.stderr.strip()}")


def is_served(server):
    """Returns whether a new client can log in and download a file."""
    try:
        with MenuClient(server.address) as client:
            data = client.login().download("Shared/small")
            return data == content("small", SharedHome.FILES["small"])
    except (OSError, Failed):
        return False
