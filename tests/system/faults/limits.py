"""Limits of descriptors and sessions, and clients that use up what they can."""

import resource
import select
import socket
import time

from client import MenuClient
from faults.case import GREETING, is_served, with_probe
from server import check, eventually, raise_descriptor_limit

ACCEPT_PAUSED = "event=accept-paused"


@with_probe(limits=[(resource.RLIMIT_NOFILE, 64)])
def few_descriptors(server, home):
    """The server admits only as many sessions as its descriptors suffice for."""
    clients = [MenuClient(server.address) for _ in range(200)]
    time.sleep(0.5)
    served = refused = waiting = 0
    for client in clients:
        client.socket.settimeout(0.05)
        try:
            line = client.line()
            served += line == GREETING
            refused += line is None or line.startswith("The server is full")
        except TimeoutError:
            waiting += 1
        except ConnectionResetError:
            refused += 1
    counts = f"served={served} refused={refused} waiting={waiting}"
    check(served > 0 and refused > 0, counts)
    check(ACCEPT_PAUSED not in server.log(), "the server ran out of descriptors")
    for client in clients:
        client.close()
    eventually("a new session", lambda: is_served(server))
    return f"200 clients: {counts}"


@with_probe()
def out_of_descriptors(server, home):
    """accept fails with EMFILE, since the limit is lowered below the one seen at the start."""
    process = server.child.pid
    soft, hard = resource.prlimit(process, resource.RLIMIT_NOFILE)
    resource.prlimit(process, resource.RLIMIT_NOFILE, (server.descriptors() + 20, hard))
    waiting = [MenuClient(server.address) for _ in range(200)]
    eventually("a failed accept", lambda: ACCEPT_PAUSED in server.log())
    check("Too many open files" in server.log(), "accept fails for another reason")
    cpu = server.cpu_share(2)
    # Each client that leaves makes room for one that waits.
    rounds = 0
    while waiting:
        served = [client for client in waiting if is_readable([client])]
        if not served:
            eventually("the next session", lambda: is_readable(waiting))
            continue
        check(rounds > 0 or len(served) < 100, f"{len(served)} of 200 were accepted at once")
        rounds += 1
        for client in served:
            check(client.line() == GREETING, "another greeting")
            client.close()
            waiting.remove(client)
    eventually("a new session", lambda: is_served(server))
    resource.prlimit(process, resource.RLIMIT_NOFILE, (soft, hard))
    paused = server.log().count(ACCEPT_PAUSED)
    return f"accept paused {paused} times, cpu={cpu:.2f}; 200 clients served in {rounds} rounds"


def is_readable(clients):
    return bool(select.select([client.socket for client in clients], [], [], 0)[0])


@with_probe()
def silent_clients(server, home):
    count = min(9000, raise_descriptor_limit() - 200)
    sockets = [socket.create_connection(server.address, timeout=10) for _ in range(count)]
    eventually("all sessions", lambda: server.descriptors() >= count)
    bytes_per_session = server.memory_kib() * 1024 // count
    cpu = server.cpu_share(2)
    check(is_served(server), "another client is not served")
    for one in sockets:
        one.close()
    return f"{count} silent clients, {bytes_per_session} bytes of memory each, cpu={cpu:.2f}"


@with_probe()
def one_byte_per_second(server, home):
    clients = [MenuClient(server.address) for _ in range(300)]
    login = b"LOGIN\nuser1\npass1\n"
    for at in range(5):
        for client in clients:
            client.send(login[at : at + 1])
        time.sleep(1)
    cpu = server.cpu()
    for client in clients:
        client.send(login[5:])
        client.until_menu()
        client.close()
    return f"300 clients that send a byte per second log in, cpu_seconds={cpu:.2f} until then"


@with_probe()
def clients_that_never_read(server, home):
    before = server.memory_kib()
    clients = []
    for _ in range(200):
        client = MenuClient(server.address, receive_buffer=4096).login()
        client.send(b"DOWNLOAD FILE Shared/large\n" * 50 + b"SHOW DIRECTORY Shared\n" * 2000)
        clients.append(client)
    time.sleep(2)
    growth = server.memory_kib() - before
    check(growth < 32 * 1024, f"{growth} KiB of memory")
    for client in clients:
        client.close()
    return f"200 clients that never read use {growth} KiB of memory"
