"""Connections that end early, and files and homes that change during requests."""

import os
import random
import socket
import threading
import time

from client import FtpClient, MenuClient, reset
from faults.case import COMPLETE, with_probe
from server import Failed, check, content


@with_probe()
def resets(server, home):
    rng = random.Random(1)
    for number in range(1000):
        client = MenuClient(server.address)
        kind = number % 5
        if kind > 0:
            client.login("user2")
        if kind == 1:
            client.send_line("DOWNLOAD FILE Shared/large")
            client.bytes(rng.randrange(200_000))
        elif kind == 2:
            client.send(b"PUT FILE 500000 Inbox/never\n" + bytes(rng.randrange(499_999)))
        elif kind == 3:
            client.send_line("CHECKSUM FILE Shared/large")
        elif kind == 4:
            client.send_line("LOGIN")
        client.reset()
    check(not (home.inbox / "never").exists(), "an incomplete upload was published")
    return "1,000 clients reset during logins, downloads, uploads and checksums"


@with_probe()
def half_closes(server, home):
    length = home.FILES["middle"]
    commands = (
        b"LOGIN\nuser2\npass2\nDOWNLOAD FILE Shared/middle\nPUT FILE 5 Inbox/half\nhelloHELP"
    )
    for _ in range(300):
        with MenuClient(server.address) as client:
            client.send(commands)
            client.socket.shutdown(socket.SHUT_WR)
            client.until("LENGTH ")
            check(client.bytes(length) == content("middle", length), "the download is not whole")
            client.until(COMPLETE)
            client.until("QUIT - ")
            while client.line() is not None:
                pass
    return "300 clients close their sending half and receive all results"


@with_probe()
def broken_data_connections(server, home):
    """FTP transfers that are aborted, reset, left without a control connection, or never begun."""
    rng = random.Random(1)
    large = content("large", home.FILES["large"])
    middle = content("middle", home.FILES["middle"])
    complete = 0
    for number in range(200):
        kind = number % 5
        with FtpClient(server.ftp_address, "user2") as client:
            break_transfer(client, kind, large, rng)
            if kind in (0, 1, 4):
                check(client.download("Shared/middle") == middle, "a download afterwards")
                reply = client.put("Inbox/whole", large[:number])
                check(reply.startswith("226"), f"reply to an upload afterwards: {reply}")
                stored = (home.inbox / "whole").read_bytes()
                check(stored == large[:number], "226 was sent before the file was published")
                complete += 1
    check(os.listdir(home.inbox) == ["whole"], f"files: {os.listdir(home.inbox)}")
    return f"200 FTP sessions break off in 4 ways; {complete} complete transfers afterwards"


def break_transfer(client, kind, large, rng):
    if kind == 0:
        data = client.data("RETR Shared/large")
        data.recv(rng.randrange(1, 200_000))
        replies = client.abort()
        codes = [reply[:3] for reply in replies]
        check(codes == ["426", "226"], f"replies to ABOR: {replies}")
        data.close()
    elif kind in (1, 2):
        data = client.data("STOR Inbox/never")
        data.sendall(large[: rng.randrange(1, 500_000)])
        if kind == 1:
            reset(data)
            reply = client.ftp.getmultiline()
            check(reply.startswith("426"), f"reply to an upload that was reset: {reply}")
        else:
            client.reset()
            data.close()
    elif kind == 3:
        client.ftp.makepasv()
        client.ftp.putcmd("RETR Shared/large")  # without a data connection


@with_probe()
def listings_of_a_changing_directory(server, home):
    stable = [f"stable {n:04}" for n in range(3000)]
    for name in stable:
        (home.shared / name).touch()
    stopping = threading.Event()

    def change_directory():
        number = 0
        while not stopping.is_set():
            number += 1
            path = home.shared / f"volatile {number % 50:02}"
            path.write_bytes(bytes(number % 100))
            path.rename(home.shared / f"volatile {(number + 25) % 50:02} moved")
            if number % 7 == 0:
                for other in home.shared.glob("volatile *"):
                    other.unlink(missing_ok=True)

    writer = threading.Thread(target=change_directory)
    writer.start()
    try:
        clients = [MenuClient(server.address).login() for _ in range(10)]
        listings = 0
        for _ in range(20):
            for client in clients:
                client.send_line("SHOW DIRECTORY Shared")
            for client in clients:
                line = client.until("The available files are: ")
                client.until_menu()
                names = line.removeprefix("The available files are: ").split(", ")
                check(names == sorted(names), "a listing is not sorted")
                check(len(names) == len(set(names)), "a listing has a name twice")
                missing = set(stable) - set(names)
                check(not missing, f"{len(missing)} files that always existed are missing")
                listings += 1
        for client in clients:
            client.close()
    finally:
        stopping.set()
        writer.join()
    return f"{listings} listings of 3,000 files during changes: complete, sorted, without repeats"


@with_probe()
def broken_reloads_under_load(server, home):
    directories = home.path / "Directories"
    deadline = time.monotonic() + 6
    expected = content("middle", home.FILES["middle"])
    failures = []
    visits = []

    def visit():
        try:
            while time.monotonic() < deadline:
                with MenuClient(server.address) as client:
                    client.login("user2")
                    data = client.download("Shared/middle")
                    check(data == expected, "a download has other bytes")
                    check(client.put("Inbox/storm", data).startswith(COMPLETE), "an upload")
                    visits.append(client)
        except (Failed, OSError) as error:
            failures.append(str(error))

    threads = [threading.Thread(target=visit) for _ in range(8)]
    for thread in threads:
        thread.start()
    reloads = 0
    while time.monotonic() < deadline - 1:
        directories.write_text(home.grants + "user2:Inbox:everything\n")
        result = server.reload()
        check(result == "kept-the-old", f"result for a broken file: {result}")
        directories.write_text(home.grants)
        result = server.reload()
        check(result == "taken-up", f"result for a valid file: {result}")
        reloads += 2
    for thread in threads:
        thread.join()
    check(not failures, f"{len(failures)} clients failed: {failures[:1]}")
    return f"{reloads} reloads, half of them of a broken file, during {len(visits)} sessions"
