"""A FUSE file system that mirrors a directory and can be slow, hang or fail.

    fuse_mirror.py SOURCE TARGET

Speaks the kernel's protocol itself, so that it needs no library. Each line on standard input is a
JSON object of settings, listed in `Mirror.SETTINGS`; an empty object changes nothing. It is
answered by one line: `{"waiting": {OPERATION: COUNT}, "calls": {OPERATION: COUNT}}`. The end of
standard input ends the program, and with it every request that waits.
"""

import collections
import errno
import heapq
import itertools
import json
import os
import select
import stat
import struct
import sys
import time

sys.dont_write_bytecode = True

import fuse_protocol as fuse

ROOT_NODE = 1
NAME_SECONDS = 0  # every use of a name is a request
ATTRIBUTE_SECONDS = 1


class Node:
    """An inode that the kernel knows; held by a descriptor that allows no access (O_PATH)."""

    def __init__(self, descriptor, key):
        self.descriptor = descriptor
        self.key = key
        self.lookups = 0

    def path(self):
        return f"/proc/self/fd/{self.descriptor}".encode()


class FileSystem:
    """Carries out requests on the source. The methods are named after the operations."""

    def __init__(self, source):
        self.nodes = {ROOT_NODE: Node(os.open(source, os.O_PATH), None)}
        self.ids = {}  # node ids by (device, inode)
        self.next_id = itertools.count(ROOT_NODE + 1)
        self.directories = {}  # entries by handle
        self.missing = set()

    def handle(self, operation, node, body):
        """Returns the reply to a request; fails with `OSError`."""
        method = getattr(self, operation.lower(), None)
        if method is None or operation.lower() in self.missing:
            raise OSError(errno.ENOSYS, operation)
        return method(node, body)

    def descriptor(self, node):
        return self.nodes[node].descriptor

    def entry(self, descriptor):
        """Registers the inode of an O_PATH descriptor and encodes it."""
        status = os.fstat(descriptor)
        key = status.st_dev, status.st_ino
        node = self.ids.get(key)
        if node is None:
            node = self.ids[key] = next(self.next_id)
            self.nodes[node] = Node(descriptor, key)
        else:
            os.close(descriptor)
        self.nodes[node].lookups += 1
        entry = fuse.ENTRY_OUT.pack(node, 0, NAME_SECONDS, ATTRIBUTE_SECONDS, 0, 0)
        return entry + fuse.attributes(status)

    def open_path(self, directory, name):
        flags = os.O_PATH | os.O_NOFOLLOW
        return os.open(name, flags, dir_fd=self.descriptor(directory))

    def lookup(self, node, body):
        return self.entry(self.open_path(node, body[:-1]))

    def forget(self, node, body):
        self.drop(node, *fuse.FORGET_IN.unpack_from(body))

    def batch_forget(self, _, body):
        for node, lookups in fuse.FORGET_ONE.iter_unpack(body[fuse.BATCH_FORGET_IN.size :]):
            self.drop(node, lookups)

    def drop(self, number, lookups):
        node = self.nodes.get(number)
        if node is None or number == ROOT_NODE:
            return
        node.lookups -= lookups
        if node.lookups <= 0:
            del self.nodes[number], self.ids[node.key]
            os.close(node.descriptor)

    def getattr(self, node, _):
        status = os.fstat(self.descriptor(node))
        return fuse.ATTR_OUT.pack(ATTRIBUTE_SECONDS, 0, 0) + fuse.attributes(status)

    def setattr(self, node, body):
        (valid, _, handle, size, _, atime, mtime, _, atime_ns, mtime_ns, _, mode, _, uid, gid, _
         ) = fuse.SETATTR_IN.unpack_from(body)
        path = self.nodes[node].path()
        if valid & fuse.SET_MODE:
            os.chmod(path, stat.S_IMODE(mode))
        if valid & (fuse.SET_UID | fuse.SET_GID):
            os.chown(path, uid if valid & fuse.SET_UID else -1, gid if valid & fuse.SET_GID else -1)
        if valid & fuse.SET_SIZE:
            os.truncate(handle if valid & fuse.SET_HANDLE else path, size)
        if valid & (fuse.SET_ATIME | fuse.SET_MTIME):
            status = os.stat(path)
            times = [status.st_atime_ns, status.st_mtime_ns]
            now = time.time_ns()
            if valid & fuse.SET_ATIME:
                times[0] = now if valid & fuse.SET_ATIME_NOW else atime * 10**9 + atime_ns
            if valid & fuse.SET_MTIME:
                times[1] = now if valid & fuse.SET_MTIME_NOW else mtime * 10**9 + mtime_ns
            os.utime(path, ns=tuple(times))
        return self.getattr(node, body)

    def readlink(self, node, _):
        return os.readlink(b"", dir_fd=self.descriptor(node))

    def symlink(self, node, body):
        name, target = body[:-1].split(b"\0")
        os.symlink(target, name, dir_fd=self.descriptor(node))
        return self.entry(self.open_path(node, name))

    def mkdir(self, node, body):
        mode, _ = fuse.MKDIR_IN.unpack_from(body)
        name = body[fuse.MKDIR_IN.size : -1]
        os.mkdir(name, dir_fd=self.descriptor(node))
        directory = self.open_path(node, name)
        os.chmod(f"/proc/self/fd/{directory}", stat.S_IMODE(mode))
        return self.entry(directory)

    def unlink(self, node, body):
        os.unlink(body[:-1], dir_fd=self.descriptor(node))

    def rmdir(self, node, body):
        os.rmdir(body[:-1], dir_fd=self.descriptor(node))

    def rename(self, node, body):
        (target,) = fuse.RENAME_IN.unpack_from(body)
        old, new = body[fuse.RENAME_IN.size : -1].split(b"\0")
        directories = {"src_dir_fd": self.descriptor(node), "dst_dir_fd": self.descriptor(target)}
        os.rename(old, new, **directories)

    def rename2(self, node, body):
        target, flags, _ = fuse.RENAME2_IN.unpack_from(body)
        old, new = body[fuse.RENAME2_IN.size : -1].split(b"\0")
        if flags != fuse.RENAME_NOREPLACE:
            raise OSError(errno.EINVAL, "flags of RENAME2")
        fuse.rename_no_replace(self.descriptor(node), old, self.descriptor(target), new)

    def link(self, node, body):
        (source,) = fuse.LINK_IN.unpack_from(body)
        name = body[fuse.LINK_IN.size : -1]
        os.link(self.nodes[source].path(), name, dst_dir_fd=self.descriptor(node))
        return self.entry(self.open_path(node, name))

    def open(self, node, body):
        flags, _ = fuse.OPEN_IN.unpack_from(body)
        flags &= ~(os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW)
        return fuse.OPEN_OUT.pack(os.open(self.nodes[node].path(), flags), 0, 0)

    def create(self, node, body):
        flags, mode, _, _ = fuse.CREATE_IN.unpack_from(body)
        name = body[fuse.CREATE_IN.size : -1]
        handle = os.open(name, flags | os.O_CREAT, dir_fd=self.descriptor(node))
        os.fchmod(handle, stat.S_IMODE(mode))
        entry = self.entry(self.open_path(node, name))
        return entry + fuse.OPEN_OUT.pack(handle, 0, 0)

    def tmpfile(self, node, body):
        flags, mode, _, _ = fuse.CREATE_IN.unpack_from(body)
        flags = flags & os.O_ACCMODE | os.O_TMPFILE
        handle = os.open(self.nodes[node].path(), flags)
        os.fchmod(handle, stat.S_IMODE(mode))
        entry = self.entry(os.open(f"/proc/self/fd/{handle}", os.O_PATH))
        return entry + fuse.OPEN_OUT.pack(handle, 0, 0)

    def read(self, _, body):
        handle, offset, size, *_ = fuse.READ_IN.unpack_from(body)
        return os.pread(handle, size, offset)

    def write(self, _, body):
        handle, offset, size, *_ = fuse.WRITE_IN.unpack_from(body)
        data = body[fuse.WRITE_IN.size :][:size]
        return fuse.WRITE_OUT.pack(os.pwrite(handle, data, offset), 0)

    def statfs(self, node, _):
        found = os.fstatvfs(self.descriptor(node))
        sizes = found.f_blocks, found.f_bfree, found.f_bavail, found.f_files, found.f_ffree
        return fuse.STATFS_OUT.pack(*sizes, found.f_bsize, found.f_namemax, found.f_frsize, 0)

    def release(self, _, body):
        os.close(fuse.RELEASE_IN.unpack_from(body)[0])

    def flush(self, _, body):
        """Has nothing to write back: writes are passed on at once."""

    def fsync(self, _, body):
        handle, flags, _ = fuse.FSYNC_IN.unpack_from(body)
        (os.fdatasync if flags & 1 else os.fsync)(handle)

    def fsyncdir(self, _, body):
        os.fsync(fuse.FSYNC_IN.unpack_from(body)[0])

    def fallocate(self, _, body):
        handle, offset, length, mode, _ = fuse.FALLOCATE_IN.unpack_from(body)
        arguments = handle, mode, fuse.ctypes.c_int64(offset), fuse.ctypes.c_int64(length)
        fuse.check_call(fuse.libc.fallocate(*arguments))

    def lseek(self, _, body):
        handle, offset, whence, _ = fuse.LSEEK_IN.unpack_from(body)
        return fuse.LSEEK_OUT.pack(os.lseek(handle, offset, whence))

    def getxattr(self, node, body):
        (size, _), name = fuse.GETXATTR_IN.unpack_from(body), body[fuse.GETXATTR_IN.size : -1]
        return sized(os.getxattr(self.nodes[node].path(), name), size)

    def listxattr(self, node, body):
        names = os.listxattr(self.nodes[node].path())
        size, _ = fuse.GETXATTR_IN.unpack_from(body)
        return sized(b"".join(os.fsencode(name) + b"\0" for name in names), size)

    def setxattr(self, node, body):
        size, flags = fuse.SETXATTR_IN.unpack_from(body)
        name, value = body[fuse.SETXATTR_IN.size :].split(b"\0", 1)
        os.setxattr(self.nodes[node].path(), name, value[:size], flags)

    def removexattr(self, node, body):
        os.removexattr(self.nodes[node].path(), body[:-1])

    def opendir(self, node, _):
        handle = os.open(self.nodes[node].path(), os.O_RDONLY | os.O_DIRECTORY)
        entries = [(b".", 1, stat.S_IFDIR), (b"..", 1, stat.S_IFDIR)]
        with os.scandir(handle) as found:
            for entry in found:
                kind = stat.S_IFDIR if entry.is_dir(follow_symlinks=False) else stat.S_IFREG
                kind = stat.S_IFLNK if entry.is_symlink() else kind
                entries.append((os.fsencode(entry.name), entry.inode(), kind))
        self.directories[handle] = entries
        return fuse.OPEN_OUT.pack(handle, 0, 0)

    def readdir(self, _, body):
        handle, offset, size, *_ = fuse.READ_IN.unpack_from(body)
        pieces, length = [], 0
        entries = self.directories[handle]
        for next_offset, (name, inode, kind) in enumerate(entries[offset:], offset + 1):
            entry = fuse.directory_entry(inode, next_offset, name, kind >> 12)
            length += len(entry)
            if length > size:
                break
            pieces.append(entry)
        return b"".join(pieces)

    def releasedir(self, _, body):
        (handle, *_) = fuse.RELEASE_IN.unpack_from(body)
        del self.directories[handle]
        os.close(handle)

    def destroy(self, *_):
        """Nothing is kept that a later mount would need."""


def sized(data, size):
    """Returns an extended attribute, or its size if the kernel asks for that."""
    if size == 0:
        return fuse.GETXATTR_OUT.pack(len(data), 0)
    if len(data) > size:
        raise OSError(errno.ERANGE, "the buffer is too short")
    return data


class Mirror:
    """Reads requests and answers each when its settings allow it."""

    # `delay` is in seconds per call, `hang` a list of operations that are not answered (or "all"),
    # `errors` the errno values by operation, `write_rate` in bytes per second, `missing` a list of
    # operations that are not implemented, in small letters. `only` limits `delay` to operations.
    SETTINGS = {
        "delay": 0, "only": [], "hang": [], "errors": {}, "write_rate": 0, "missing": [],
    }

    def __init__(self, source, target):
        self.files = FileSystem(source)
        self.settings = dict(self.SETTINGS)
        self.device = fuse.mount(target)
        self.held = []  # requests that are not answered
        self.delayed = []  # a heap of (time, number, request)
        self.numbers = itertools.count()
        self.written = 0  # when the throttled writes so far are done
        self.calls = collections.Counter()

    def run(self):
        poll = select.poll()
        poll.register(self.device, select.POLLIN)
        poll.register(sys.stdin, select.POLLIN)
        while True:
            due = self.delayed[0][0] - time.monotonic() if self.delayed else None
            for descriptor, events in poll.poll(due and max(0, due * 1000)):
                if descriptor != self.device:
                    line = sys.stdin.buffer.readline()
                    if not line:
                        return
                    self.control(json.loads(line))
                elif events & select.POLLIN:
                    self.receive()
                else:
                    return  # unmounted or aborted
            while self.delayed and self.delayed[0][0] <= time.monotonic():
                self.answer(heapq.heappop(self.delayed)[2])

    def control(self, settings):
        self.settings.update(settings)
        self.files.missing = set(self.settings["missing"])
        held, self.held = self.held, []
        for request in held:
            if self.hangs(operation(request)):
                self.held.append(request)
            else:
                self.answer(request)
        waiting = collections.Counter(map(operation, self.held))
        waiting.update(operation(request) for _, _, request in self.delayed)
        print(json.dumps({"waiting": waiting, "calls": self.calls}), flush=True)

    def hangs(self, name):
        return self.settings["hang"] == "all" or name in self.settings["hang"]

    def receive(self):
        try:
            request = os.read(self.device, fuse.READ_BYTES)
        except OSError as error:
            # ENOENT: the request was interrupted before it was read.
            if error.errno in (errno.EAGAIN, errno.EINTR, errno.ENOENT):
                return
            raise
        name = operation(request)
        if name == "INIT":
            self.initialize(request)
        elif name in fuse.NO_REPLY:
            if name != "INTERRUPT":  # an interrupted request stays unanswered
                self.answer(request)
        else:
            self.calls[name] += 1
            self.schedule(name, request)

    def schedule(self, name, request):
        now = time.monotonic()
        due = now
        if not self.settings["only"] or name in self.settings["only"]:
            due += self.settings["delay"]
        if name == "WRITE" and self.settings["write_rate"]:
            seconds = len(request) / self.settings["write_rate"]
            self.written = max(self.written, now) + seconds
            due = max(due, self.written)
        if self.hangs(name):
            self.held.append(request)
        elif due > now:
            heapq.heappush(self.delayed, (due, next(self.numbers), request))
        else:
            self.answer(request)

    def initialize(self, request):
        body = request[fuse.IN_HEADER.size :]
        _, minor, readahead, flags = fuse.INIT_IN.unpack_from(body)
        minor = min(minor, fuse.MINOR)
        flags &= fuse.INIT_FLAGS
        pages = fuse.WRITE_BYTES_MAX // 4096
        numbers = fuse.MAJOR, minor, readahead, flags, 64, 48, fuse.WRITE_BYTES_MAX, 1, pages, 0
        self.reply(request, 0, fuse.INIT_OUT.pack(*numbers))

    def answer(self, request):
        _, _, _, node, *_ = fuse.IN_HEADER.unpack_from(request)
        name = operation(request)
        error, data = 0, b""
        errors = self.settings["errors"]
        try:
            if number := errors.get(name) or errors.get("all"):
                raise OSError(number, name)
            data = self.files.handle(name, node, request[fuse.IN_HEADER.size :]) or b""
        except OSError as failure:
            error = failure.errno
        except (KeyError, ValueError, struct.error) as failure:
            print(f"fuse_mirror: {name}: {failure!r}", file=sys.stderr, flush=True)
            error = errno.EIO
        if name not in fuse.NO_REPLY:
            self.reply(request, error, b"" if error else data)

    def reply(self, request, error, data):
        _, _, unique, *_ = fuse.IN_HEADER.unpack_from(request)
        header = fuse.OUT_HEADER.pack(fuse.OUT_HEADER.size + len(data), -error, unique)
        try:
            os.writev(self.device, [header, data])
        except FileNotFoundError:
            pass  # the request was interrupted


def operation(request):
    return fuse.OPERATIONS.get(fuse.IN_HEADER.unpack_from(request)[1], "OTHER")


def main():
    source, target = sys.argv[1:]
    os.umask(0)
    try:
        mirror = Mirror(source, target)
    except OSError as error:
        print(json.dumps({"error": f"cannot mount: {error}"}), flush=True)
        return 1
    print(json.dumps({"mounted": target}), flush=True)
    try:
        mirror.run()
    except OSError as error:
        if error.errno != errno.ENODEV:  # unmounted
            raise
    return 0


if __name__ == "__main__":
    sys.exit(main())
