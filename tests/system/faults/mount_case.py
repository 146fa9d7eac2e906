"""How a case with a slow mount runs: its home and server, the checks meanwhile and afterwards."""

import os
import subprocess
import threading
import time

from client import FtpClient, MenuClient
from faults.case import COMPLETE, register
from faults.requests import collect
from latency import LatencyProbe, prefer
from server import MIB, Failed, Server, SharedHome, Skipped, check, content, eventually
from slow_mount import SlowMount

P99_MILLISECONDS_MAX = 3  # of the probe's requests on a fast disk
SECONDS_MAX = 1  # for a login or a reload during a fault
NEVER = ["--disk-timeout", "600"]  # so that nothing but the tested event ends a request
GRANTS = ["user2:Remote:read,change", "user4:Remote:read,change"]


class MountHome(SharedHome):
    """A `SharedHome` whose directory Remote is a `SlowMount` with files of its own."""

    def __init__(self):
        super().__init__(GRANTS, in_memory=True)
        try:
            self.mount = SlowMount(self.files / "Remote", self.folder)
        except Skipped:
            self.remove()
            raise
        self.source = self.mount.source
        self.restore_files()

    def restore_files(self):
        """Undoes what the requests of a case have changed on the mount."""
        for name, length in self.FILES.items():
            (self.source / name).write_bytes(content(name, length))
        for name in ["old", "older"]:
            (self.source / name).touch()
        for name in ["folder", "empty"]:
            (self.source / name).mkdir(exist_ok=True)
        for name in ["new", "newer"]:
            if (self.source / name).is_dir():
                (self.source / name).rmdir()
        for name in [*"abcdefg", "renamed"]:
            (self.source / name).unlink(missing_ok=True)

    def __exit__(self, *_):
        self.mount.close()
        self.remove()


def with_mount(*options):
    """Registers a case that gets a server with these options, and its `MountHome`."""

    def decorate(case):
        def run():
            with MountHome() as home, MountServer(home, options) as server:
                details = case(server, home)
                home.mount.recover()
                eventually("use of the mount afterwards", lambda: is_served(server, "Remote"))
                check_left_over(home)
                check(server.is_running(), f"the server has exited: {server.log()[-300:]}")
                server.stop()
                return details

        register(case.__name__, run)
        return case

    return decorate


class MountServer(Server):
    """A server whose event loop runs before other programs, so that its delays are its own."""

    def __init__(self, home, options=(), **addresses):
        self.home = home
        super().__init__(home, options, **addresses)
        prefer(self.child.pid)

    def kill(self):
        """Kills the server; one that waits for a mount ends only if the mount does."""
        self.child.kill()
        try:
            self.child.wait(2)
        except subprocess.TimeoutExpired:
            self.home.mount.abort()
        super().kill()

    def threads(self):
        return len(os.listdir(f"/proc/{self.child.pid}/task"))


def is_served(server, directory):
    """Returns whether a new client can list a directory and download from it."""
    try:
        with MenuClient(server.address) as client:
            client.login("user2")
            listed = client.ask(f"SHOW DIRECTORY {directory}")
            data = client.download(f"{directory}/small") if "small" in listed else None
            return data == content("small", SharedHome.FILES["small"])
    except (Failed, OSError):
        return False


def check_left_over(home):
    def temporary():
        return [name for name in os.listdir(home.source) if name.startswith(".")]

    eventually("removal of temporary files", lambda: not temporary(), 10)


def timed(what, action, seconds_max=SECONDS_MAX):
    """Runs an action, which must not take longer than `seconds_max`."""
    start = time.monotonic()
    action()
    seconds = time.monotonic() - start
    check(seconds <= seconds_max, f"{what} took {seconds:.2f} s")
    return seconds


def check_other_users(server, home):
    """Logs in and reloads; both must be quick, and the reload effective."""

    def login():
        MenuClient(server.address).login("user4").close()

    login_seconds = timed("a login", login)
    guest = f"guest{server.log().count('event=reload result=')}"
    with open(home.path / "Credentials", "a", encoding="ascii") as file:
        file.write(f"{guest}:plain:guest\n")
    reload_seconds = timed("a reload", lambda: check_reload(server))
    timed("the login of a new user", lambda: MenuClient(server.address).login(guest, "guest"))
    return f"login={login_seconds:.2f} s reload={reload_seconds:.2f} s"


def check_reload(server):
    result = server.reload()
    check(result == "taken-up", f"result of the reload: {result}: {server.log()[-300:]}")


def check_latencies(latencies, limit=P99_MILLISECONDS_MAX):
    for kind in latencies.times:
        check(latencies.p99(kind) <= limit, f"slow requests on a fast disk: {latencies}")


def eventually_served(server):
    eventually("use of the mount", lambda: is_served(server, "Remote"))


def upload_to(server, stopping, failures):
    """Uploads to Remote at full speed until stopped, by menu and by FTP in turn."""

    def upload():
        data = bytes(32 * MIB)
        while not stopping.is_set():
            with MenuClient(server.address) as client:
                result = client.login("user2").put("Remote/throttled", data)
                check(result is not None and result.startswith(COMPLETE), f"upload: {result}")
            with FtpClient(server.ftp_address, "user2") as client:
                reply = client.put("Remote/throttled", data)
                check(reply.startswith("226"), f"upload: {reply}")

    collect("an upload", upload, failures)


def during_uploads(server, seconds=8):
    """Returns the `Latencies` of another user during uploads to Remote."""
    stopping, failures = threading.Event(), []
    uploader = threading.Thread(target=upload_to, args=(server, stopping, failures))
    probe = LatencyProbe(server)
    uploader.start()
    time.sleep(seconds)
    stopping.set()
    latencies = probe.stop()
    uploader.join()
    check(not failures, "; ".join(failures))
    return latencies
