"""Measures a recursive download of many small files with `get`.

    scripts/measure-client [ROUNDS]

Compares `get --recursive --jobs 8` with `cp -r` of the same tree plus a bare transfer of the same
number of bytes over loopback, in interleaved rounds. Then uploads the tree with `put --recursive`.
Prints each round and the ratio of the medians. The exit status is 1 if `get` takes more than twice
as long as the other two together, or if a file is not identical.
"""

import filecmp
import os
import shutil
import socket
import statistics
import subprocess
import sys
import threading
import time

sys.dont_write_bytecode = True

from server import Home, Server, build, program

FILES, FOLDERS, RATIO_MAX = 2000, 20, 2.0


def main():
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    build()
    with Home({"user": "secret"}, ["user:Tree:read", "user:Back:read,upload"]) as home:
        tree = home.files / "Tree"
        total = make_tree(tree)
        with Server(home, ["--log-level", "error"], ftp=None) as server:
            host, port = server.address
            return measure(home.folder, tree, total, f"user@{host}:{port}", rounds)


def make_tree(tree):
    """Makes small files of different lengths and returns the sum of the lengths."""
    total = 0
    for number in range(FILES):
        path = tree / f"{number % FOLDERS:02}" / f"{number:04}"
        path.parent.mkdir(parents=True, exist_ok=True)
        length = 200 + (number * 7919) % 8000
        path.write_bytes(bytes((number + at) % 251 for at in range(length)))
        total += length
    return total


def measure(folder, tree, total, remote, rounds):
    times = {"get": [], "copy_and_transfer": []}
    steps = [
        lambda: times["get"].append(get(folder, tree, remote)),
        lambda: times["copy_and_transfer"].append(copy_and_transfer(folder, tree, total)),
    ]
    for number in range(rounds):
        for step in steps if number % 2 == 0 else reversed(steps):
            step()
        last = " ".join(f"{name}_seconds={values[-1]:.3f}" for name, values in times.items())
        print(f"client round={number + 1} {last}", flush=True)
    ratio = statistics.median(times["get"]) / statistics.median(times["copy_and_transfer"])
    run(["put", "--quiet", "--recursive", "--jobs", "8", remote, "Back", tree])
    compare(tree, tree.parent / "Back/Tree")
    parameters = f"files={FILES} bytes={total} rounds={rounds}"
    print(f"client {parameters} ratio={ratio:.2f} uploaded=identical")
    return 0 if ratio <= RATIO_MAX else 1


def get(folder, tree, remote):
    target = folder / "downloads"
    start = time.monotonic()
    run(["get", "--quiet", "--recursive", "--jobs", "8", "--into", target, remote, "Tree"])
    seconds = time.monotonic() - start
    compare(tree, target / "Tree")
    shutil.rmtree(target)
    return seconds


def run(arguments):
    environment = {**os.environ, "TIDEGATE_PASSWORD": "secret"}
    subprocess.run([program(), *arguments], env=environment, check=True, timeout=120)


def copy_and_transfer(folder, tree, total):
    start = time.monotonic()
    subprocess.run(["cp", "-r", tree, folder / "copy"], check=True)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        sender = threading.Thread(target=send, args=(listener, total))
        sender.start()
        with socket.create_connection(listener.getsockname()) as peer:
            remaining = total
            while remaining:
                remaining -= len(peer.recv(min(remaining, 1 << 18)))
        sender.join()
    seconds = time.monotonic() - start
    shutil.rmtree(folder / "copy")
    return seconds


def send(listener, total):
    peer, _ = listener.accept()
    with peer:
        peer.sendall(bytes(total))


def compare(one, other):
    names = sorted(path.relative_to(one) for path in one.rglob("*"))
    if names != sorted(path.relative_to(other) for path in other.rglob("*")):
        sys.exit("measure-client: the trees have different names")
    files = [name for name in names if (one / name).is_file()]
    if len(filecmp.cmpfiles(one, other, files, shallow=False)[0]) != FILES:
        sys.exit("measure-client: a file has other bytes")


if __name__ == "__main__":
    sys.exit(main())
