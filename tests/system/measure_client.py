#!/usr/bin/env python3
"""How long the client takes over a tree of small files: `get --recursive --jobs 8`, beside `cp -r` of the same tree and
a bare transfer of the same bytes over loopback, in interleaved rounds; then the tree goes back with `put --recursive`.

    scripts/measure-client [ROUNDS]

Prints each round and the ratio of the medians. Status 1 where `get` takes more than twice as long as the other two
together, or where any byte comes out differently.
"""

import filecmp
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROGRAM = ROOT / "target/release/tidegate"
FILES, FOLDERS, RATIO_MAX = 2000, 20, 2.0


def main():
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    subprocess.run(["cargo", "build", "--release", "--quiet"], cwd=ROOT, check=True)
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        home = folder / "home"
        tree = home / "files/Tree"
        total = make_tree(tree)
        (home / "files/Back").mkdir()
        (home / "Credentials").write_text("user:plain:secret\n")
        (home / "Credentials").chmod(0o600)
        (home / "Directories").write_text("user:Tree:read\nuser:Back:read,upload\n")
        server = subprocess.Popen(
            [PROGRAM, "serve", home, "--listen", "127.0.0.1:0", "--log-level", "error"], stdout=subprocess.PIPE, text=True
        )
        try:
            remote = "user@" + server.stdout.readline().split()[2]
            return measure(folder, tree, total, remote, rounds)
        finally:
            server.terminate()
            server.wait()


def make_tree(tree):
    """Small files of different lengths; how many bytes they have together."""
    total = 0
    for number in range(FILES):
        path = tree / f"{number % FOLDERS:02}" / f"{number:04}"
        path.parent.mkdir(parents=True, exist_ok=True)
        length = 200 + (number * 7919) % 8000
        path.write_bytes(bytes((number + at) % 251 for at in range(length)))
        total += length
    return total


def measure(folder, tree, total, remote, rounds):
    got, base = [], []
    for number in range(rounds):
        steps = [lambda: got.append(get(folder, tree, remote)), lambda: base.append(copy_and_transfer(folder, tree, total))]
        for step in steps if number % 2 == 0 else reversed(steps):
            step()
        print(f"client round={number + 1} get_seconds={got[-1]:.3f} copy_and_transfer_seconds={base[-1]:.3f}", flush=True)
    ratio = statistics.median(got) / statistics.median(base)
    put(tree, remote)
    same(tree, tree.parent / "Back/Tree")
    print(f"client files={FILES} bytes={total} rounds={rounds} ratio={ratio:.2f} put_back=whole")
    return 0 if ratio <= RATIO_MAX else 1


def get(folder, tree, remote):
    into = folder / "downloads"
    begun = time.monotonic()
    run(["get", "--quiet", "--recursive", "--jobs", "8", "--into", into, remote, "Tree"])
    seconds = time.monotonic() - begun
    same(tree, into / "Tree")
    shutil.rmtree(into)
    return seconds


def put(tree, remote):
    run(["put", "--quiet", "--recursive", "--jobs", "8", remote, "Back", tree])


def run(arguments):
    environment = {**os.environ, "TIDEGATE_PASSWORD": "secret"}
    subprocess.run([PROGRAM, *arguments], env=environment, check=True, timeout=120)


def copy_and_transfer(folder, tree, total):
    begun = time.monotonic()
    subprocess.run(["cp", "-r", tree, folder / "copy"], check=True)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        sender = threading.Thread(target=send, args=(listener, total))
        sender.start()
        with socket.create_connection(listener.getsockname()) as peer:
            left = total
            while left:
                left -= len(peer.recv(min(left, 1 << 18)))
        sender.join()
    seconds = time.monotonic() - begun
    shutil.rmtree(folder / "copy")
    return seconds


def send(listener, total):
    peer, _ = listener.accept()
    with peer:
        peer.sendall(bytes(total))


def same(one, other):
    names = sorted(path.relative_to(one) for path in one.rglob("*"))
    if names != sorted(path.relative_to(other) for path in other.rglob("*")):
        sys.exit("measure-client: the trees have different names")
    files = [name for name in names if (one / name).is_file()]
    if len(filecmp.cmpfiles(one, other, files, shallow=False)[0]) != FILES:
        sys.exit("measure-client: a file came out differently")


if __name__ == "__main__":
    sys.exit(main())
