#!/usr/bin/env python3
"""Faults on a real server over real sockets, one after the other, each a line on standard output.

    scripts/faults           all of them, in a few minutes
    scripts/faults NAME…     those alone

A line tells what happened, how many small downloads a client made beside it and their 99th percentile, and how much
memory and how many descriptors the server has afterwards beyond what it had before. Status 1 where one fails. Everything
is in temporary folders and gone afterwards; a disk that is full is a small tmpfs, which only root can mount.
"""

import errno
import os
import random
import resource
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "faults"))
from house import FILES, MIB, PATIENCE, Client, Failed, FtpClient, Home, Probe, Server, Shim, build, check, content
from house import eventually, program, raise_descriptors, reload, reset

P99_MILLISECONDS_MAX = 1000  # a small download beside any fault
MEMORY_KIB_MAX = 24 * 1024  # what may stay of a fault: freed memory that the allocator keeps
GREETING = "Please choose 'LOGIN' or 'QUIT'"
ACCEPT_PAUSED = "event=accept-paused"
COMPLETE = "Upload complete: "
NO_ROOM = "There is not enough room for that file"


class Skipped(Exception):
    """This machine cannot do it."""


def main():
    names = sys.argv[1:]
    known = {name.replace("_", "-"): story for name, story in STORIES.items()}
    if any(name not in known for name in names):
        print(__doc__.strip(), "\n\nNAMES: " + " ".join(known), sep="", file=sys.stderr)
        sys.exit(2)
    build()
    raise_descriptors()
    failed = 0
    for name in names or known:
        try:
            print(f"{name:<32} ok       {known[name]()}", flush=True)
        except Skipped as reason:
            print(f"{name:<32} skipped  {reason}", flush=True)
        except (Failed, OSError, subprocess.SubprocessError) as error:
            failed += 1
            print(f"{name:<32} FAILED   {type(error).__name__}: {error}", flush=True)
    Shim.forget()
    sys.exit(1 if failed else 0)


STORIES = {}


def beside_a_probe(limits=(), shim=False, disk=None):
    """A story that is played on one server while others are served; with `disk`, Inbox is a file system of that size."""

    def decorate(story):
        def play():
            home = Home()
            server = None
            try:
                arguments = [home]
                environment = None
                if shim:
                    arguments.append(Shim(home))
                    environment = arguments[1].environment
                if disk:
                    mount(home.inbox, disk)
                server = Server(home, limits=limits, environment=environment)
                with Client(server.address) as client:  # what is made once and kept is made before the measure
                    client.login(2)
                    for file in FILES:
                        client.download(f"Shared/{file}")
                    check(client.put("Inbox/warm", b"up").startswith(COMPLETE), "an upload without a fault")
                os.remove(home.inbox / "warm")
                eventually("the first client is gone", lambda: server.log().count(" event=end ") == 1)
                memory, descriptors = server.memory_kib(), server.descriptors()
                # Before the story's clients: a process that is forked holds all sockets that were open then.
                probe = Probe(server.address)
                told = story(server, *arguments)
                count, p99 = probe.end()
                check(server.is_running(), f"the server is gone: {server.log()[-300:]}")
                # FTP awaits a data connection for 30 seconds, whoever has left.
                eventually("descriptors come back", lambda: server.descriptors() <= descriptors, 2 * PATIENCE)
                more = server.memory_kib() - memory
                check(more <= MEMORY_KIB_MAX, f"{more} KiB of memory did not come back")
                check(not home.temporary(), f"left behind: {home.temporary()}")
                check(p99 <= P99_MILLISECONDS_MAX, f"the p99 of a small download beside it was {p99:.0f} ms")
                server.stop()
                return f"{told}; beside={count} p99_milliseconds={p99:.2f} memory_kib={more:+} descriptors=+0"
            finally:
                if server and server.is_running():
                    server.kill()
                if os.path.ismount(home.inbox):
                    subprocess.run(["umount", "--lazy", home.inbox], check=True)
                home.remove()

        STORIES[story.__name__] = play
        return story

    return decorate


def alone(story):
    """A story in which servers and commands are killed: it starts its own."""
    def play():
        home = Home()
        try:
            return story(home)
        finally:
            home.remove()

    STORIES[story.__name__] = play
    return story


def mount(path, size):
    arguments = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=755", "tmpfs", path]
    mounted = subprocess.run(arguments, capture_output=True, text=True)
    if mounted.returncode != 0:
        raise Skipped(f"no file system can be mounted here: {mounted.stderr.strip()}")


# The disk.


@beside_a_probe(disk="4m")
def disk_full(server, home):
    with Client(server.address) as one, Client(server.address) as other:
        one.login(2), other.login(2)
        check(one.put("Inbox/old", content(1, MIB)).startswith(COMPLETE), "the first file")
        with Client(server.address) as third:
            told = third.login(2).put("Inbox/old", content(2, 6 * MIB))
        check(told == NO_ROOM, f"a file larger than the disk: {told}")
        # Half of an upload holds its room, so that the next one is refused.
        one.send(b"PUT FILE %d Inbox/half\n" % (2 * MIB) + content(3, MIB))
        eventually("the room is taken", lambda: free(home.inbox) <= MIB)
        with Client(server.address) as third:
            told = third.login(2).put("Inbox/old", content(4, 2 * MIB))
        check(told == NO_ROOM, f"a second file into the room of the first: {told}")
        check((home.inbox / "old").read_bytes() == content(1, MIB), "the old file is whole")
        one.reset()
        eventually("the room comes back", lambda: free(home.inbox) > 2 * MIB)
        check(other.put("Inbox/old", content(5, 2 * MIB)).startswith(COMPLETE), "an upload afterwards")
    check((home.inbox / "old").read_bytes() == content(5, 2 * MIB), "the new file is whole")
    check(os.listdir(home.inbox) == ["old"], f"left behind: {os.listdir(home.inbox)}")
    return "refused up front, the old file stays whole, the room of a client that left comes back"


def free(path):
    status = os.statvfs(path)
    return status.f_bavail * status.f_frsize


@beside_a_probe(limits=[(resource.RLIMIT_FSIZE, MIB)])
def file_size_limit(server, home):
    for _ in range(10):
        with Client(server.address) as client:
            told = client.login(2).put("Inbox/long", content(1, 2 * MIB))
        check(told == f"Upload failed: {NO_ROOM}", f"said of a file over the limit: {told}")
        with Client(server.address) as client:
            check(client.login(2).put("Inbox/short", content(2, MIB // 2)).startswith(COMPLETE), "a file below it")
        check(os.listdir(home.inbox) == ["short"], f"there: {os.listdir(home.inbox)}")
    return "10 files over it are refused, 10 below it arrive"


@beside_a_probe(shim=True)
def io_errors_of_an_upload(server, home, shim):
    (home.inbox / "old").write_bytes(b"old")
    failures = 0
    with Client(server.address) as client:
        client.login(2)
        for switch in ["write", "sync", "link"]:
            for number in [errno.EIO, errno.ENOSPC] * 5:
                shim.set(**{switch: number})
                told = client.put("Inbox/old", content(number, 700_000))
                shim.set(**{switch: 0})
                check(told and told.startswith("Upload failed: "), f"{switch}: {told}")
                check((home.inbox / "old").read_bytes() == b"old", f"{switch}: the old file is whole")
                check(os.listdir(home.inbox) == ["old"], f"{switch}: {os.listdir(home.inbox)}")
                failures += 1
        check(client.put("Inbox/old", b"new").startswith(COMPLETE), "an upload afterwards")
    return f"{failures} uploads failed in a line each, their connection went on"


@beside_a_probe(shim=True)
def io_errors_of_a_download(server, home, shim):
    for _ in range(10):
        shim.set(sendfile=errno.EIO)
        with Client(server.address) as client:
            client.login().say("DOWNLOAD FILE Shared/large")
            client.until("LENGTH ")
            check(len(client.bytes(FILES["large"])) < FILES["large"], "it closes short of the length")
        shim.set(sendfile=0, read=errno.EIO)
        with Client(server.address) as client:
            told = client.login().ask("CHECKSUM FILE Shared/large")
            check(told == "The file cannot be read", f"a checksum: {told}")
            shim.set(read=0)
            told = client.ask("CHECKSUM FILE Shared/large")
            check(told == f"SHA-256 {home.hashes['large']} large", f"a checksum afterwards: {told}")
            check(client.download("Shared/large") == content("large", FILES["large"]), "a download afterwards")
    return "10 downloads closed short, 10 checksums were refused, both went well afterwards"


@beside_a_probe(shim=True)
def no_unnamed_files(server, home, shim):
    """A file system without O_TMPFILE: uploads take a temporary name."""
    shim.set(unnamed=errno.EOPNOTSUPP)
    for number in range(20):
        with Client(server.address) as client:
            client.login(2)
            check(client.put("Inbox/a", content(number, 300_000)).startswith(COMPLETE), "an upload")
            client.send(b"PUT FILE 1000 Inbox/b\nhalf")
            eventually("a temporary name", lambda: len(home.temporary()) == 1)
            client.reset()
        eventually("the temporary name goes with its client", lambda: not home.temporary())
    check(os.listdir(home.inbox) == ["a"], f"there: {os.listdir(home.inbox)}")
    check((home.inbox / "a").read_bytes() == content(19, 300_000), "the last one is whole")
    return "20 uploads take a temporary name, 20 half ones lose it with their client"


@alone
def a_kill_without_unnamed_files(home):
    """What a killed server leaves of temporary names, the next one sweeps."""
    shim = Shim(home)
    shim.set(unnamed=errno.EOPNOTSUPP)
    server = Server(home, environment=shim.environment)
    try:
        client = Client(server.address).login(2)
        check(client.put("Inbox/a", b"whole").startswith(COMPLETE), "an upload")
        client.send(b"PUT FILE 1000 Inbox/b\nhalf")
        eventually("a temporary name", lambda: len(home.temporary()) == 1)
        server.kill()
        check(len(home.temporary()) == 1, "a killed server sweeps nothing")
        server = Server(home)
        eventually("the next server sweeps", lambda: not home.temporary())
        check(os.listdir(home.inbox) == ["a"], f"there: {os.listdir(home.inbox)}")
        server.stop()
    finally:
        server.kill()
    return "the temporary name that a killed server leaves goes with the next start"


@alone
def a_second_stop_beside_a_disk_that_hangs(home):
    shim = Shim(home)
    server = Server(home, environment=shim.environment)
    try:
        client = Client(server.address).login(2)
        shim.set(sync_seconds=PATIENCE)
        client.send(b"PUT FILE 4 Inbox/a\nhalf")
        time.sleep(1)  # a worker is at the sync by then
        server.signal(signal.SIGTERM)
        eventually("the drain", lambda: "event=drain" in server.log())
        begun = time.monotonic()
        server.signal(signal.SIGTERM)
        status = server.child.wait(PATIENCE)
        took = time.monotonic() - begun
        check(status == 1, f"it ended with status {status}")
        check(took < 5, f"it took {took:.1f} seconds")
    finally:
        server.kill()
    check(not os.listdir(home.inbox), f"there: {os.listdir(home.inbox)}")
    return f"the process ends {took:.2f} seconds after the second signal"


@alone
def kill_at_each_step_of_an_upload(home):
    """The server dies at the n-th call that changes a file, for each n until an upload passes."""
    shim = Shim(home)
    kills = 0
    new = content("new", 600_000)
    for unnamed, there in [(0, True), (0, False), (errno.EOPNOTSUPP, True), (errno.EOPNOTSUPP, False)]:
        for at in range(1, 100):
            for name in os.listdir(home.inbox):
                os.remove(home.inbox / name)
            if there:
                (home.inbox / "file").write_bytes(b"old")
            shim.set(unnamed=unnamed, kill_at=0, changes=0)
            server = Server(home, environment=shim.environment)
            try:
                with Client(server.address) as client:
                    client.login(2)
                    shim.set(changes=0, kill_at=at)
                    told = client.put("Inbox/file", new)
            except OSError:
                told = None
            finally:
                # A server that was told nothing of has to be dead by itself.
                complete = told is not None and told.startswith(COMPLETE)
                if not complete:
                    eventually("the kill", lambda: not server.is_running(), 10)
                server.kill()
            kills += not complete
            file = home.inbox / "file"
            found = file.read_bytes() if file.exists() else None
            allowed = [new] if complete else [new, b"old" if there else None]
            check(found in allowed, f"killed at call {at}: the file is torn or lost")
            server = Server(home)
            try:
                eventually("the sweep", lambda: not home.temporary())
                with Client(server.address) as client:
                    check(client.login(2).put("Inbox/file", b"again").startswith(COMPLETE), "an upload afterwards")
                server.stop()
            finally:
                server.kill()
            if complete:
                break
        else:
            raise Failed("an upload has no end")
    return f"{kills} kills: the old file or the new one each time, and nothing else after the next start"


@beside_a_probe()
def kill_at_each_step_of_an_account_edit(server, home):
    """`user add` dies at the n-th call that changes a file, and at any moment."""
    shim = Shim(home)
    credentials = home.path / "Credentials"
    user_add = [program(), "user", "add", home.path, "guest", "--password-stdin"]

    def edit(environment, seconds=None):
        child = subprocess.Popen(
            user_add,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, **environment},
        )
        if seconds is not None:
            threading.Timer(seconds, child.kill).start()
        try:
            child.communicate(b"secret\n", 30)
        except BrokenPipeError:
            child.wait(30)
        return child.returncode

    old = credentials.read_bytes()
    kills = 0

    def inspect(status):
        nonlocal kills
        found = credentials.read_bytes()
        added = found.startswith(old) and found.count(b"\n") == old.count(b"\n") + 1 and b"\nguest:$argon2id$" in found
        check(found == old or added, f"Credentials is torn: {found[-100:]}")
        check(status != 0 or added, "it said that the user was added, and he is not there")
        check(credentials.stat().st_mode & 0o077 == 0, "others may read Credentials")
        kills += status == -signal.SIGKILL
        if found != old:
            credentials.write_bytes(old)

    for at in range(1, 100):
        shim.set(changes=0, kill_at=at)
        status = edit(shim.environment)
        inspect(status)
        if status == 0:
            break
    for seconds in [random.uniform(0, 0.06) for _ in range(40)]:
        inspect(edit({}, seconds))
    check(edit({}) == 0, "an edit afterwards")
    names = sorted(name for name in os.listdir(home.path) if name.startswith("."))
    check(names == [".tidegate.lock", ".tidegate.pid", ".tidegate.sock"], f"left behind: {names}")
    return f"{kills} kills: the old file or the new one each time, and the next edit goes well"


# Descriptors and sockets.


@beside_a_probe(limits=[(resource.RLIMIT_NOFILE, 64)])
def a_full_house(server, home):
    """The server knows its descriptors, and lets in as many as they suffice for."""
    clients = []
    served = told = waiting = 0
    for _ in range(200):
        client = Client(server.address)
        client.socket.settimeout(0.05)
        clients.append(client)
    time.sleep(0.5)
    for client in clients:
        try:
            line = client.line()
            served += line == GREETING
            told += line is None or line.startswith("The server is full")
        except TimeoutError:
            waiting += 1
        except ConnectionResetError:
            told += 1
    check(served > 0 and told > 0, f"served {served}, told {told}, waiting {waiting}")
    check(ACCEPT_PAUSED not in server.log(), "it counts on more descriptors than it has")
    for client in clients:
        client.close()
    eventually("the door is open again", lambda: is_served(server))
    return f"of 200 clients {served} were served, {told} told that it is full, {waiting} had to wait"


@beside_a_probe()
def out_of_descriptors(server, home):
    """The limit is lowered below what the server counts on, so that accept fails with EMFILE."""
    process = server.child.pid
    soft, hard = resource.prlimit(process, resource.RLIMIT_NOFILE)
    resource.prlimit(process, resource.RLIMIT_NOFILE, (server.descriptors() + 20, hard))
    waiting = [Client(server.address) for _ in range(200)]
    eventually("accept fails", lambda: ACCEPT_PAUSED in server.log())
    check("Too many open files" in server.log(), "accept fails for another reason")
    cpu, begun = server.cpu(), time.monotonic()
    time.sleep(2)
    busy = (server.cpu() - cpu) / (time.monotonic() - begun)
    # Whoever leaves makes room for the next who waits, with no more descriptors than before.
    rounds = 0
    while waiting:
        served = [client for client in waiting if select.select([client.socket], [], [], 0)[0]]
        if not served:
            eventually("the next is let in", lambda: select.select([c.socket for c in waiting], [], [], 0)[0])
            continue
        check(rounds > 0 or len(served) < 100, f"{len(served)} of 200 were let in at once")
        rounds += 1
        for client in served:
            check(client.line() == GREETING, "another greeting")
            client.close()
            waiting.remove(client)
    eventually("the door is open again", lambda: is_served(server))
    resource.prlimit(process, resource.RLIMIT_NOFILE, (soft, hard))
    paused = server.log().count(ACCEPT_PAUSED)
    return f"EMFILE {paused} times, cpu={busy:.2f} then; 200 clients were served in {rounds} rounds, as others left"


def is_served(server):
    try:
        with Client(server.address) as client:
            return client.login().download("Shared/small") == content("small", FILES["small"])
    except (OSError, Failed):
        return False


@beside_a_probe()
def silent_connects(server, home):
    count = min(9000, raise_descriptors() - 200)
    sockets = []
    for _ in range(count):
        one = socket.socket()
        one.settimeout(10)
        one.connect(server.address)
        sockets.append(one)
    eventually("all have a session", lambda: server.descriptors() >= count)
    per_session = server.memory_kib() * 1024 // count
    cpu, begun = server.cpu(), time.monotonic()
    time.sleep(2)
    busy = (server.cpu() - cpu) / (time.monotonic() - begun)
    check(is_served(server), "another one is served")
    for one in sockets:
        one.close()
    return f"{count} connects that say nothing, {per_session} bytes each, all memory counted, cpu={busy:.2f}"


@beside_a_probe()
def a_byte_a_second(server, home):
    clients = [Client(server.address) for _ in range(300)]
    words = b"LOGIN\nuser1\npass1\n"
    for at in range(5):
        for client in clients:
            client.send(words[at : at + 1])
        time.sleep(1)
    cpu = server.cpu()
    for client in clients:
        client.send(words[5:])
        client.until("Please choose: ")
        client.close()
    return f"300 clients that send a byte a second are understood in the end, cpu_seconds={cpu:.2f} so far"


@beside_a_probe()
def readers_that_never_read(server, home):
    before = server.memory_kib()
    clients = []
    for _ in range(200):
        client = Client(server.address, receive_buffer=4096).login()
        client.send(b"DOWNLOAD FILE Shared/large\n" * 50 + b"SHOW DIRECTORY Shared\n" * 2000)
        clients.append(client)
    time.sleep(2)
    more = server.memory_kib() - before
    check(more < 32 * 1024, f"they cost {more} KiB")
    for client in clients:
        client.close()
    return f"200 clients that never read what they ask for cost {more} KiB while they stay"


@beside_a_probe()
def resets(server, home):
    rng = random.Random(1)
    for number in range(1000):
        client = Client(server.address)
        what = number % 5
        if what > 0:
            client.login(2)
        if what == 1:
            client.say("DOWNLOAD FILE Shared/large")
            client.bytes(rng.randrange(200_000))
        elif what == 2:
            client.send(b"PUT FILE 500000 Inbox/never\n" + bytes(rng.randrange(499_999)))
        elif what == 3:
            client.say("CHECKSUM FILE Shared/large")
        elif what == 4:
            client.say("LOGIN")
        client.reset()
    check(not (home.inbox / "never").exists(), "half an upload was published")
    return "1,000 clients that reset amid logins, downloads, uploads and checksums"


@beside_a_probe()
def half_closes(server, home):
    for number in range(300):
        with Client(server.address) as client:
            client.send(b"LOGIN\nuser2\npass2\nDOWNLOAD FILE Shared/middle\nPUT FILE 5 Inbox/half\nhelloHELP")
            client.socket.shutdown(socket.SHUT_WR)
            client.until("LENGTH ")
            data = client.bytes(FILES["middle"])
            check(data == content("middle", FILES["middle"]), "the download is whole")
            client.until(COMPLETE)
            client.until("QUIT - ")
            while client.line() is not None:
                pass
    return "300 clients that close their sending half get all that they are owed"


@beside_a_probe()
def broken_data_connections(server, home):
    """FTP's transfers that are aborted, reset, left without their control connection, or whose client never comes."""
    rng = random.Random(1)
    large = content("large", FILES["large"])
    whole = 0
    for number in range(200):
        what = number % 5
        with FtpClient(server.ftp_address, 2) as client:
            if what == 0:
                data = client.data("RETR Shared/large")
                data.recv(rng.randrange(1, 200_000))
                replies = client.abort()
                check(replies[0][:3] == "426" and replies[1][:3] == "226", f"said of ABOR: {replies}")
                data.close()
            elif what == 1:
                data = client.data("STOR Inbox/never")
                data.sendall(large[: rng.randrange(1, 500_000)])
                reset(data)
                reply = client.ftp.getmultiline()
                check(reply[:3] == "426", f"said of an upload that was reset: {reply}")
            elif what == 2:
                data = client.data("STOR Inbox/never")
                data.sendall(large[: rng.randrange(1, 500_000)])
                client.reset()
                data.close()
            elif what == 3:
                client.ftp.makepasv()
                client.ftp.putcmd("RETR Shared/large")  # and nobody comes
            if what in (0, 1, 4):
                check(client.download("Shared/middle") == content("middle", FILES["middle"]), "a download afterwards")
                check(client.put("Inbox/whole", large[:number])[:3] == "226", "an upload afterwards")
                check((home.inbox / "whole").read_bytes() == large[:number], "it is there when that is said")
                whole += 1
    check(os.listdir(home.inbox) == ["whole"], f"there: {os.listdir(home.inbox)}")
    return f"200 clients of FTP that break off in 4 ways; {whole} of them moved files whole behind it"


# People on the server.


@beside_a_probe()
def listings_of_a_directory_that_changes(server, home):
    stable = [f"stable {n:04}" for n in range(3000)]
    for name in stable:
        (home.shared / name).touch()
    ending = threading.Event()

    def change():
        number = 0
        while not ending.is_set():
            number += 1
            path = home.shared / f"volatile {number % 50:02}"
            path.write_bytes(bytes(number % 100))
            path.rename(home.shared / f"volatile {(number + 25) % 50:02} moved")
            if number % 7 == 0:
                for other in home.shared.glob("volatile *"):
                    other.unlink(missing_ok=True)

    person = threading.Thread(target=change)
    person.start()
    try:
        clients = [Client(server.address).login() for _ in range(10)]
        listings = 0
        for _ in range(20):
            for client in clients:
                client.say("SHOW DIRECTORY Shared")
            for client in clients:
                line = client.until("The available files are: ")
                client.until("Please choose: ")
                names = line.removeprefix("The available files are: ").split(", ")
                check(names == sorted(names), "a listing out of order")
                check(len(names) == len(set(names)), "a name twice")
                missing = set(stable) - set(names)
                check(not missing, f"{len(missing)} files that were there all the time are missing")
                listings += 1
        for client in clients:
            client.close()
    finally:
        ending.set()
        person.join()
    return f"{listings} listings of 3,000 files among others that come and go: all there, in order, once"


@beside_a_probe()
def broken_reloads_in_a_storm(server, home):
    directories = home.path / "Directories"
    stop = time.monotonic() + 6
    failures = []
    visits = 0

    def visit():
        nonlocal visits
        try:
            while time.monotonic() < stop:
                with Client(server.address) as client:
                    client.login(2)
                    data = client.download("Shared/middle")
                    check(data == content("middle", FILES["middle"]), "other bytes")
                    check(client.put("Inbox/storm", data).startswith(COMPLETE), "an upload")
                    visits += 1
        except (Failed, OSError) as error:
            failures.append(str(error))

    visitors = [threading.Thread(target=visit) for _ in range(8)]
    for visitor in visitors:
        visitor.start()
    reloads = 0
    while time.monotonic() < stop - 1:
        directories.write_text(home.grants + "user2:Inbox:everything\n")
        told = reload(server)
        check(told == "kept-the-old", f"a broken file was {told}")
        directories.write_text(home.grants)
        told = reload(server)
        check(told == "taken-up", f"a good file was {told}")
        reloads += 2
    for visitor in visitors:
        visitor.join()
    check(not failures, f"{len(failures)} visitors: {failures[:1]}")
    return f"{reloads} reloads, every second one of a broken file, beside {visits} whole visits"


if __name__ == "__main__":
    main()
