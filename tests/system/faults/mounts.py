"""Mounts that are slow, do not answer, throttle or fail, and everything else at the same time."""

import errno
import hashlib
import socket
import threading
import time

from client import FtpClient, MenuClient
from faults.case import COMPLETE, register
from faults.mount_case import (
    GRANTS,
    NEVER,
    MountHome,
    MountServer,
    check_latencies,
    check_left_over,
    check_other_users,
    during_uploads,
    eventually_served,
    timed,
    with_mount,
)
from faults.requests import LENGTH, FtpExchange, collect, exchanges, session_ended
from latency import LatencyProbe
from server import MIB, SharedHome, check, content, eventually
from slow_mount import SlowDisk

THROTTLED_P99_MILLISECONDS_MAX = 5  # during an upload to a throttled disk
WRITE_RATE = 20_000_000


@with_mount("--disk-timeout", "120")
def mount_of_five_seconds(server, home):
    """Each call on the mount takes five seconds. Everything is served, slowly, from there."""
    home.mount.set(delay=5)
    sent = [(one(server, request), request) for one, request in exchanges()]
    check(home.mount.waiting() > 0, "no request reached the mount")
    probe = LatencyProbe(server)
    time.sleep(6)
    others = check_other_users(server, home)
    latencies = probe.stop()
    for exchange, _ in sent:
        exchange.close()
    home.mount.recover()
    check_latencies(latencies)
    return f"{len(sent)} requests wait; {others}; {latencies}"


@with_mount("--disk-timeout", "120")
def mount_of_one_second(server, home):
    """Whatever a slow mount serves is complete."""
    home.mount.set(delay=1)
    length = SharedHome.FILES["middle"]
    expected = hashlib.sha256(content("middle", length)).hexdigest()
    failures = []

    def run(name, check_result):
        def request():
            with MenuClient(server.address) as client:
                check_result(client.login("user2"))

        return threading.Thread(target=collect, args=(name, request, failures))

    def download(client):
        data = client.download("Remote/middle")
        check(hashlib.sha256(data).hexdigest() == expected, "another content")

    def checksum(client):
        result = client.ask("CHECKSUM FILE Remote/middle")
        check(result == f"SHA-256 {expected} middle", result)

    def upload(client):
        result = client.put("Remote/uploaded", content("uploaded", length))
        check(result is not None and result.startswith(COMPLETE), result)
        check((home.source / "uploaded").read_bytes() == content("uploaded", length), "content")

    def listing(client):
        result = client.ask("SHOW DIRECTORY Remote", "The available files")
        check("middle" in result, result)

    requests = [download, checksum, upload, listing]
    threads = [run(request.__name__, request) for request in requests]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    check(not failures, "; ".join(failures))
    return "a download, a checksum, an upload and a listing are complete"


@with_mount("--disk-timeout", "3")
def mount_that_hangs(server, home):
    """No call on the mount returns, while two users want much of it; it recovers later."""
    threads = server.threads()
    home.mount.set(hang="all")
    sent = [one(server, request) for one, request in exchanges() for _ in range(3)]
    home.mount.until_waiting()
    probe = LatencyProbe(server)
    time.sleep(2)
    others = [check_other_users(server, home)]
    time.sleep(3)  # until the mount is known to be stuck
    others.append(check_other_users(server, home))
    latencies = probe.stop()
    more_threads = server.threads() - threads
    check_latencies(latencies)
    for one in sent:
        one.close()
    home.mount.recover()
    timed("use of the mount afterwards", lambda: eventually_served(server), 5)
    return f"{len(sent)} requests; {'; '.join(others)}; threads=+{more_threads}; {latencies}"


@with_mount("--disk-timeout", "2")
def requests_that_hang(server, home):
    """Each request gets an error in time, and its session continues on another disk."""
    failures = []
    for kind, request in exchanges():
        home.restore_files()
        home.mount.set(hang=request.operations)
        one = kind(server, request)

        def expect_error(one=one, request=request):
            home.mount.until_waiting(*request.operations)
            start = time.monotonic()
            one.client_timeout(10)
            result = one.result()
            seconds = time.monotonic() - start
            check(one.is_error(result), f"result: {result}")
            check(seconds <= 3, f"the error came after {seconds:.1f} s")
            timed("a request to a fast disk", lambda: check(one.continues(), "the session"), 0.5)

        collect(request, expect_error, failures)
        one.close()
        home.mount.recover()
        collect(f"after {request}", lambda: eventually_served(server), failures)
    check(not failures, f"{len(failures)} of {len(exchanges())} requests: " + "; ".join(failures))
    return f"{len(exchanges())} requests get an error within 3 s, and their sessions continue"


@with_mount(*NEVER)
def clients_that_leave_hanging_requests(server, home):
    """The server notices it, except for an upload in the menu of which everything was sent."""
    failures = []
    watched = [
        (kind, request)
        for kind, request in exchanges()
        if kind is FtpExchange or request.kind != "upload"
    ]
    for kind, request in watched:
        home.restore_files()
        home.mount.set(hang=request.operations)
        one = kind(server, request)

        def leave(one=one, request=request):
            home.mount.until_waiting(*request.operations)
            one.close()
            eventually("the end of the session", lambda: session_ended(server, one.local_port), 4)

        collect(request, leave, failures)
        one.close()
        home.mount.recover()
    check(not failures, f"{len(failures)} of {len(watched)} requests: " + "; ".join(failures))
    return f"{len(watched)} clients leave during a call that hangs; each session ends"


@with_mount(*NEVER)
def abor_of_hanging_requests(server, home):
    failures = []
    requests = [
        request
        for kind, request in exchanges()
        if kind is FtpExchange and not request.is_published
    ]
    for request in requests:
        home.restore_files()
        home.mount.set(hang=request.operations)
        one = FtpExchange(server, request)

        def abort(one=one, request=request):
            home.mount.until_waiting(*request.operations)
            one.client_timeout(5)
            one.client.send_line("ABOR")
            codes = [one.client.reply()[:3]]
            while codes[-1] not in ("225", "226"):
                codes.append(one.client.reply()[:3])
            check(any(code[0] == "4" for code in codes), f"replies: {codes}")
            check(one.continues(), "the session does not continue")

        collect(request, lambda: timed("ABOR", abort), failures)
        one.close()
        home.mount.recover()
    check(not failures, f"{len(failures)} of {len(requests)} requests: " + "; ".join(failures))
    return f"ABOR ends {len(requests)} requests during a call that hangs"


@with_mount("--disk-timeout", "2")
def downloads_that_hang_halfway(server, home):
    """The mount stops answering reads when a part of a file has been sent."""
    length = 256 * MIB
    with open(home.source / "huge", "wb") as file:
        file.truncate(length)
    with FtpClient(server.ftp_address, "user2") as ftp, MenuClient(server.address) as menu:
        menu.login("user2").send_line("DOWNLOAD FILE Remote/huge")
        menu.until("LENGTH ")
        check(len(menu.bytes(MIB)) == MIB, "the first bytes by the menu")
        data = ftp.data("RETR Remote/huge")
        check(data.recv(1000, socket.MSG_WAITALL) == bytes(1000), "the first bytes by FTP")
        home.mount.set(hang=["READ"])
        received = []
        reader = threading.Thread(target=lambda: received.append(len(menu.bytes(length))))
        reader.start()
        while data.recv(MIB):
            pass
        start = time.monotonic()
        reply = ftp.reply()
        check(reply.startswith("451"), f"reply: {reply}")
        timed("the reply after the data", lambda: None, 1 - (time.monotonic() - start))
        reader.join(5)
        check(received and received[0] < length - MIB, "the menu does not close the connection")
        check(ftp.ask("SIZE Shared/small") == "213 1024", "the session does not continue")
    return "451 over FTP, and the menu closes the connection short of the length"


@with_mount()
def mount_that_fails(server, home):
    """Every call fails with an errno value; the mount works again later."""
    failures = []
    for number in [errno.EIO, errno.ENOTCONN, errno.ESTALE, errno.ETIMEDOUT]:
        for kind, request in exchanges():
            home.restore_files()
            home.mount.set(errors={"all": number})
            one = kind(server, request)

            def expect_error(one=one):
                one.client_timeout(5)
                result = one.result()
                check(not result.startswith(("2", "Upload complete")), f"result: {result}")
                check(one.continues(), "the session does not continue")

            collect(f"{errno.errorcode[number]} {request}", expect_error, failures)
            one.close()
            home.mount.recover()
            collect(f"after {request}", lambda: eventually_served(server), failures)
    check(not failures, f"{len(failures)} requests: " + "; ".join(failures))
    return f"4 errors of {len(exchanges())} requests each; the mount is served after each"


@with_mount()
def mount_without_links(server, home):
    """Uploads where hard links, O_TMPFILE or RENAME_NOREPLACE are missing, in combinations."""
    combinations = [
        ["link"], ["tmpfile"], ["link", "tmpfile"], ["rename2", "tmpfile"],
        ["link", "tmpfile", "rename2"],
    ]
    for number, missing in enumerate(combinations):
        # The kernel remembers what a mount cannot do.
        with MountHome() as other, MountServer(other) as one:
            other.mount.set(missing=missing)
            with MenuClient(one.address) as client:
                client.login("user2")
                for name in ["created", "small"]:
                    data = content(number, LENGTH)
                    result = client.put(f"Remote/{name}", data)
                    check(result.startswith(COMPLETE), f"without {missing}: {result}")
                    check((other.source / name).read_bytes() == data, f"without {missing}: content")
                    client.until_menu()
            check_left_over(other)
            one.stop()
    return f"new files and replaced ones, in {len(combinations)} combinations"


@with_mount()
def uploads_to_a_throttled_mount(server, home):
    home.mount.set(write_rate=WRITE_RATE)
    latencies = during_uploads(server)
    check_latencies(latencies, THROTTLED_P99_MILLISECONDS_MAX)
    return f"uploads at 20 MB/s; {latencies}"


def uploads_to_a_throttled_disk():
    """The same on a local file system, which the server expects to be fast."""
    with SharedHome(GRANTS, in_memory=True) as home:
        with SlowDisk(home.files / "Remote", home.folder) as disk:
            disk.mount.set(write_rate=WRITE_RATE)
            home.mount = disk.mount
            with MountServer(home) as server:
                latencies = during_uploads(server)
                check_latencies(latencies, THROTTLED_P99_MILLISECONDS_MAX)
                server.stop()
    return f"uploads at 20 MB/s; {latencies}"


register("uploads_to_a_throttled_disk", uploads_to_a_throttled_disk)
