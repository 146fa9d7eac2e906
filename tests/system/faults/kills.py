"""Processes that are killed, or stopped while a disk hangs."""

import errno
import os
import random
import signal
import subprocess
import threading
import time

from client import MenuClient
from fault_injection import FaultInjector
from faults.case import COMPLETE, alone, with_probe
from server import TIMEOUT_SECONDS, Failed, Server, check, content, eventually, program


@alone
def kill_without_unnamed_files(home):
    """The next server removes the temporary names of a killed one."""
    injector = FaultInjector(home)
    injector.set(unnamed=errno.EOPNOTSUPP)
    with Server(home, environment=injector.environment) as server:
        client = MenuClient(server.address).login("user2")
        check(client.put("Inbox/a", b"whole").startswith(COMPLETE), "an upload")
        client.send(b"PUT FILE 1000 Inbox/b\nhalf")
        eventually("a temporary name", lambda: len(home.temporary_names()) == 1)
    check(len(home.temporary_names()) == 1, "the temporary name is gone before the next start")
    with Server(home) as server:
        eventually("removal of the orphan", lambda: not home.temporary_names())
        check(os.listdir(home.inbox) == ["a"], f"files: {os.listdir(home.inbox)}")
        server.stop()
    return "the next start removes the orphan of a killed server"


@alone
def second_stop_during_a_hanging_sync(home):
    injector = FaultInjector(home)
    with Server(home, environment=injector.environment) as server:
        client = MenuClient(server.address).login("user2")
        injector.set(sync_seconds=TIMEOUT_SECONDS)
        client.send(b"PUT FILE 4 Inbox/a\nhalf")
        time.sleep(1)  # until a worker calls fdatasync
        server.signal(signal.SIGTERM)
        eventually("the drain", lambda: "event=drain" in server.log())
        start = time.monotonic()
        server.signal(signal.SIGTERM)
        status = server.child.wait(TIMEOUT_SECONDS)
        seconds = time.monotonic() - start
        check(status == 1, f"exit status {status}")
        check(seconds < 5, f"the exit took {seconds:.1f} seconds")
    check(not os.listdir(home.inbox), f"files: {os.listdir(home.inbox)}")
    return f"the server exits {seconds:.2f} seconds after the second signal"


@alone
def kill_at_each_step_of_an_upload(home):
    """Kills the server at the n-th changing call of an upload, for each n until it succeeds."""
    injector = FaultInjector(home)
    kills = 0
    for unnamed in [0, errno.EOPNOTSUPP]:
        for exists in [True, False]:
            injector.set(unnamed=unnamed)
            for call in range(1, 100):
                if upload_with_kill(home, injector, call, exists):
                    break
                kills += 1
            else:
                raise Failed("an upload makes 100 changing calls")
    return f"{kills} kills; each leaves the old file or the new one, and no orphan after a restart"


def upload_with_kill(home, injector, call, exists):
    """Uploads a file to a server that is killed at a call; returns whether the upload succeeded."""
    for name in os.listdir(home.inbox):
        os.remove(home.inbox / name)
    file = home.inbox / "file"
    if exists:
        file.write_bytes(b"old")
    new = content("new", 600_000)
    injector.set(kill_at=0, changes=0)
    result = None
    with Server(home, environment=injector.environment) as server:
        try:
            with MenuClient(server.address) as client:
                client.login("user2")
                injector.set(changes=0, kill_at=call)
                result = client.put("Inbox/file", new)
        except OSError:
            pass
        complete = result is not None and result.startswith(COMPLETE)
        if not complete:
            eventually("the kill", lambda: not server.is_running(), 10)
    found = file.read_bytes() if file.exists() else None
    allowed = [new] if complete else [new, b"old" if exists else None]
    check(found in allowed, f"killed at call {call}: the file is incomplete or lost")
    with Server(home) as server:
        eventually("removal of orphans", lambda: not home.temporary_names())
        with MenuClient(server.address) as client:
            result = client.login("user2").put("Inbox/file", b"again")
            check(result.startswith(COMPLETE), f"result of an upload afterwards: {result}")
        server.stop()
    return complete


@with_probe()
def kill_at_each_step_of_an_account_edit(server, home):
    """Kills `user add` at the n-th call that changes a file, and at random times."""
    injector = FaultInjector(home)
    credentials = home.path / "Credentials"
    old = credentials.read_bytes()
    kills = 0

    def verify(status):
        nonlocal kills
        found = credentials.read_bytes()
        added = (
            found.startswith(old)
            and found.count(b"\n") == old.count(b"\n") + 1
            and b"\nguest:$argon2id$" in found
        )
        check(found == old or added, f"Credentials is incomplete: {found[-100:]}")
        check(status != 0 or added, "success is reported, but the user is not in Credentials")
        check(credentials.stat().st_mode & 0o077 == 0, "Credentials is readable by others")
        kills += status == -signal.SIGKILL
        if found != old:
            credentials.write_bytes(old)

    for call in range(1, 100):
        injector.set(changes=0, kill_at=call)
        status = user_add(home, injector.environment)
        verify(status)
        if status == 0:
            break
    for seconds in [random.uniform(0, 0.06) for _ in range(40)]:
        verify(user_add(home, {}, seconds))
    check(user_add(home, {}) == 0, "an edit afterwards")
    names = sorted(name for name in os.listdir(home.path) if name.startswith("."))
    expected = [".tidegate.lock", ".tidegate.pid", ".tidegate.sock"]
    check(names == expected, f"left over: {set(names) - set(expected)}")
    return f"{kills} kills; each leaves the old file or the new one, and the next edit succeeds"


def user_add(home, environment, kill_after=None):
    """Adds the user guest and returns the exit status; kills the command after some seconds."""
    child = subprocess.Popen(
        [program(), "user", "add", home.path, "guest", "--password-stdin"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, **environment},
    )
    if kill_after is not None:
        threading.Timer(kill_after, child.kill).start()
    try:
        child.communicate(b"secret\n", TIMEOUT_SECONDS)
    except BrokenPipeError:
        child.wait(TIMEOUT_SECONDS)
    return child.returncode
