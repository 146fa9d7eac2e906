"""Faults of the disk: no room, a limit of the file size, I/O errors, missing features."""

import errno
import os
import resource

from client import MenuClient
from faults.case import COMPLETE, NO_ROOM, with_probe
from server import MIB, check, content, eventually


@with_probe(disk="4m")
def disk_full(server, home):
    with MenuClient(server.address) as one, MenuClient(server.address) as other:
        one.login("user2")
        other.login("user2")
        check(one.put("Inbox/old", content(1, MIB)).startswith(COMPLETE), "the first file")
        with MenuClient(server.address) as third:
            result = third.login("user2").put("Inbox/old", content(2, 6 * MIB))
        check(result == NO_ROOM, f"result of a file larger than the disk: {result}")
        # An incomplete upload reserves its room, so that the next one is refused.
        one.send(b"PUT FILE %d Inbox/half\n" % (2 * MIB) + content(3, MIB))
        eventually("the reservation of the room", lambda: free_bytes(home.inbox) <= MIB)
        with MenuClient(server.address) as third:
            result = third.login("user2").put("Inbox/old", content(4, 2 * MIB))
        check(result == NO_ROOM, f"result of an upload into reserved room: {result}")
        check((home.inbox / "old").read_bytes() == content(1, MIB), "the old file has changed")
        one.reset()
        eventually("the release of the room", lambda: free_bytes(home.inbox) > 2 * MIB)
        result = other.put("Inbox/old", content(5, 2 * MIB))
        check(result.startswith(COMPLETE), f"result of an upload afterwards: {result}")
    check((home.inbox / "old").read_bytes() == content(5, 2 * MIB), "the new file is not whole")
    check(os.listdir(home.inbox) == ["old"], f"files: {os.listdir(home.inbox)}")
    return "refused in advance; the old file stays whole; the room of a client that left is free"


def free_bytes(path):
    status = os.statvfs(path)
    return status.f_bavail * status.f_frsize


@with_probe(limits=[(resource.RLIMIT_FSIZE, MIB)])
def file_size_limit(server, home):
    for _ in range(10):
        with MenuClient(server.address) as client:
            result = client.login("user2").put("Inbox/long", content(1, 2 * MIB))
        check(result == f"Upload failed: {NO_ROOM}", f"result of a file over the limit: {result}")
        with MenuClient(server.address) as client:
            result = client.login("user2").put("Inbox/short", content(2, MIB // 2))
        check(result.startswith(COMPLETE), f"result of a file below the limit: {result}")
        check(os.listdir(home.inbox) == ["short"], f"files: {os.listdir(home.inbox)}")
    return "10 files over the limit are refused, 10 below it are accepted"


@with_probe(injector=True)
def io_errors_of_uploads(server, home, injector):
    (home.inbox / "old").write_bytes(b"old")
    failures = 0
    with MenuClient(server.address) as client:
        client.login("user2")
        for switch in ["write", "sync", "link"]:
            for number in [errno.EIO, errno.ENOSPC] * 5:
                injector.set(**{switch: number})
                result = client.put("Inbox/old", content(number, 700_000))
                injector.set(**{switch: 0})
                failed = result and result.startswith("Upload failed: ")
                check(failed, f"{switch}: {result}")
                check((home.inbox / "old").read_bytes() == b"old", f"{switch}: the file changed")
                check(os.listdir(home.inbox) == ["old"], f"{switch}: {os.listdir(home.inbox)}")
                failures += 1
        check(client.put("Inbox/old", b"new").startswith(COMPLETE), "an upload afterwards")
    return f"{failures} uploads failed with one line each; their session continued"


@with_probe(injector=True)
def io_errors_of_downloads(server, home, injector):
    length = home.FILES["large"]
    for _ in range(10):
        injector.set(sendfile=errno.EIO)
        with MenuClient(server.address) as client:
            client.login().send_line("DOWNLOAD FILE Shared/large")
            client.until("LENGTH ")
            check(len(client.bytes(length)) < length, "the connection is not closed early")
        injector.set(sendfile=0, read=errno.EIO)
        with MenuClient(server.address) as client:
            result = client.login().ask("CHECKSUM FILE Shared/large")
            check(result == "The file cannot be read", f"result of a checksum: {result}")
            injector.set(read=0)
            result = client.ask("CHECKSUM FILE Shared/large")
            expected = f"SHA-256 {home.hashes['large']} large"
            check(result == expected, f"result of a checksum afterwards: {result}")
            data = client.download("Shared/large")
            check(data == content("large", length), "a download afterwards")
    return "10 downloads closed early, 10 checksums refused, both complete afterwards"


@with_probe(injector=True)
def no_unnamed_files(server, home, injector):
    """A file system without O_TMPFILE: staged uploads have temporary names."""
    injector.set(unnamed=errno.EOPNOTSUPP)
    for number in range(20):
        with MenuClient(server.address) as client:
            client.login("user2")
            result = client.put("Inbox/a", content(number, 300_000))
            check(result.startswith(COMPLETE), f"result of an upload: {result}")
            client.send(b"PUT FILE 1000 Inbox/b\nhalf")
            eventually("a temporary name", lambda: len(home.temporary_names()) == 1)
            client.reset()
        eventually("removal of the temporary name", lambda: not home.temporary_names())
    check(os.listdir(home.inbox) == ["a"], f"files: {os.listdir(home.inbox)}")
    check((home.inbox / "a").read_bytes() == content(19, 300_000), "the last file is not whole")
    return "20 uploads use a temporary name; 20 incomplete ones remove it"
