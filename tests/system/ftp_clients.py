#!/usr/bin/env python3
"""Real FTP clients against the built server: each gets, puts, resumes, lists and mirrors, and what it moved is compared
byte by byte.

    scripts/clients [--install] [CLIENT…]

CLIENT is one of those below; without any, all of them. `--install` brings what is missing by apt-get and npm; else a client
that is not here is told as skipped. Prints a line for each client. Status 1 where one failed.
"""

import ftplib
import filecmp
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROGRAM = ROOT / "target/release/tidegate"
FILES = 1000
USER, PASSWORD = "anna", "secret"
NAMES = ["with space", "-leading dash", "quote'd \"twice\"", "größe und 文字", "semi;colon & amp", "percent%20"]
PATIENCE_SECONDS = 180


class Failed(Exception):
    """What a client did not do."""


class World:
    """A home with a tree to get and a directory to put into, its server, and a folder for the client."""

    def __init__(self, folder):
        self.folder = Path(folder)
        home = self.folder / "home"
        self.tree = home / "files/Tree"
        self.up = home / "files/Up"
        for number in range(FILES):
            path = self.tree / f"{number % 10}" / f"file {number:04}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(bytes((number + at) % 251 for at in range(number * 7)))
        for name in NAMES:
            (self.tree / name).write_bytes(name.encode() * 100)
        self.big = self.tree / "big"
        self.big.write_bytes(os.urandom(3_000_000))
        self.up.mkdir()
        (home / "Credentials").write_text(f"{USER}:plain:{PASSWORD}\n")
        (home / "Credentials").chmod(0o600)
        (home / "Directories").write_text(f"{USER}:Tree:read\n{USER}:Up:read,change\n")
        self.here = self.folder / "here"
        self.here.mkdir()
        self.server = subprocess.Popen(
            [PROGRAM, "serve", home, "--ftp", "127.0.0.1:0", "--log-level", "error"],
            stdout=subprocess.PIPE, text=True,
        )
        self.host, port = self.server.stdout.readline().split()[2].rsplit(":", 1)
        self.port = int(port)

    def url(self, path):
        return f"ftp://{USER}:{PASSWORD}@{self.host}:{self.port}/{path}"

    def run(self, *command, folder=None, text=None):
        ran = subprocess.run(
            [str(part) for part in command], cwd=folder or self.here, input=text, text=True,
            capture_output=True, timeout=PATIENCE_SECONDS, env={**os.environ, "HOME": str(self.folder), "LC_ALL": "C.UTF-8"},
        )
        if ran.returncode != 0:
            raise Failed(f"{command[0]}: status {ran.returncode}: {(ran.stderr or ran.stdout).strip()[-400:]}")
        return ran.stdout

    def same(self, one, other):
        if not filecmp.cmp(one, other, shallow=False):
            raise Failed(f"{other} is not what {one} is")

    def same_tree(self, one, other):
        def names(top):
            return sorted(path.relative_to(top) for path in top.rglob("*"))

        if names(one) != names(other):
            missing = set(names(one)) ^ set(names(other))
            raise Failed(f"{len(missing)} names differ, among them {sorted(map(str, missing))[:3]}")
        for path in names(one):
            if (one / path).is_file():
                self.same(one / path, other / path)

    def half(self, name="big"):
        """Half of the big file, as a transfer that broke left it."""
        path = self.here / name
        path.write_bytes(self.big.read_bytes()[:1_400_000])
        return path

    def close(self):
        self.server.terminate()
        if self.server.wait(60) != 0:
            raise Failed("the server did not end well")


def curl(world):
    listing = world.run("curl", "-sS", "--list-only", world.url("Tree/")).splitlines()
    if not set(NAMES) <= set(listing):
        raise Failed(f"not listed: {set(NAMES) - set(listing)}")
    half = world.half()
    world.run("curl", "-sS", "-C", "-", "-o", half, world.url("Tree/big"))
    world.same(world.big, half)
    world.run("curl", "-sS", "--ftp-create-dirs", "-T", half, world.url("Up/new/deep/big"))
    world.same(world.big, world.up / "new/deep/big")
    world.run("curl", "-sS", "-P", "-", "-o", "active", world.url("Tree/big"))
    world.same(world.big, world.here / "active")
    for index, name in enumerate(NAMES):
        quoted = "".join(c if c.isalnum() and c.isascii() else "".join(f"%{b:02X}" for b in c.encode()) for c in name)
        world.run("curl", "-sS", "-o", f"named{index}", world.url(f"Tree/{quoted}"))
        world.same(world.tree / name, world.here / f"named{index}")


def lftp(world):
    login = f"set net:max-retries 2; set net:timeout 30; open -u {USER},{PASSWORD} ftp://{world.host}:{world.port}"
    world.run("lftp", "-c", f"{login}; mirror --parallel=4 Tree got")
    world.same_tree(world.tree, world.here / "got")
    world.run("lftp", "-c", f"{login}; mirror -R --parallel=4 got Up/back")
    world.same_tree(world.tree, world.up / "back")
    world.half()
    world.run("lftp", "-c", f"{login}; get -c Tree/big")
    world.same(world.big, world.here / "big")
    world.run("lftp", "-c", f"{login}; mv Up/back/big Up/moved; rm Up/moved; rm -r Up/back")
    if (world.up / "back").exists():
        raise Failed("rm -r left something")


def ncftp(world):
    login = ["-u", USER, "-p", PASSWORD, "-P", str(world.port)]
    world.run("ncftpget", "-V", *login, "-R", world.host, ".", "Tree")
    world.same_tree(world.tree, world.here / "Tree")
    world.half()
    world.run("ncftpget", "-V", *login, "-z", world.host, ".", "Tree/big")
    world.same(world.big, world.here / "big")
    world.run("ncftpput", "-V", *login, "-R", world.host, "Up", "Tree")
    world.same_tree(world.tree, world.up / "Tree")


def wget(world):
    world.run("wget", "-q", "-r", "-nH", "--tries=2", world.url("Tree/"))
    (world.here / ".listing").unlink(missing_ok=True)
    # It reads a percent sign in a name that it was told as one of its own escapes.
    (world.here / "Tree/percent ").rename(world.here / "Tree/percent%20")
    world.same_tree(world.tree, world.here / "Tree")
    half = world.half("big")
    world.run("wget", "-q", "-c", "--tries=2", world.url("Tree/big"))
    world.same(world.big, half)


def tnftp(world):
    world.run("tnftp", "-n", world.host, str(world.port), text=(
        f"user {USER} {PASSWORD}\nbinary\nprompt\ncd Tree\nls\nget big\nget \"with space\"\ncd ../Up\nput big\nmkdir sub\nquit\n"
    ))
    world.same(world.big, world.here / "big")
    world.same(world.tree / "with space", world.here / "with space")
    world.same(world.big, world.up / "big")


def python(world):
    with ftplib.FTP(encoding="utf-8") as ftp:
        ftp.connect(world.host, world.port, timeout=30)
        ftp.login(USER, PASSWORD)
        listed = {name: facts for name, facts in ftp.mlsd("Tree") if facts["type"] == "file"}
        if set(listed) != set(NAMES) | {"big"} or int(listed["big"]["size"]) != world.big.stat().st_size:
            raise Failed(f"MLSD lists {sorted(listed)}")
        half = world.half()
        with half.open("ab") as file:
            ftp.retrbinary("RETR Tree/big", file.write, rest=half.stat().st_size)
        world.same(world.big, half)
        for name in NAMES:
            with (world.tree / name).open("rb") as file:
                ftp.storbinary(f"STOR Up/{name}", file)
            world.same(world.tree / name, world.up / name)
            ftp.rename(f"Up/{name}", f"Up/{name}.old")
            ftp.delete(f"Up/{name}.old")
        ftp.set_pasv(False)
        with half.open("wb") as file:
            ftp.retrbinary("RETR Tree/big", file.write)
        world.same(world.big, half)


def perl(world):
    script = """
        use strict; use Net::FTP;
        my ($host, $port, $user, $password) = @ARGV;
        my $ftp = Net::FTP->new($host, Port => $port, Timeout => 30) or die "connect: $@";
        $ftp->login($user, $password) or die $ftp->message;
        $ftp->binary;
        die "ls" unless grep { $_ eq 'with space' } $ftp->ls('Tree');
        die "size" unless $ftp->size('Tree/big') == 3000000;
        $ftp->get('Tree/big', 'big') or die $ftp->message;
        $ftp->put('big', 'Up/big') or die $ftp->message;
        $ftp->mkdir('Up/a/b', 1) or die $ftp->message;
        $ftp->rename('Up/big', 'Up/a/b/big') or die $ftp->message;
        $ftp->quit;
    """
    world.run("perl", "-e", script, world.host, str(world.port), USER, PASSWORD)
    world.same(world.big, world.here / "big")
    world.same(world.big, world.up / "a/b/big")


def basic_ftp(world):
    script = """
        const ftp = require("basic-ftp");
        (async () => {
            const [host, port, user, password] = process.argv.slice(1);
            const client = new ftp.Client(30000);
            await client.access({ host, port: Number(port), user, password, secure: false });
            await client.downloadToDir("got", "Tree");
            await client.uploadFromDir("got", "Up/back");
            const names = (await client.list("Tree")).map(entry => entry.name);
            if (!names.includes("with space")) throw new Error("list: " + names);
            client.close();
        })().catch(error => { console.error(error); process.exit(1); });
    """
    modules = subprocess.run(["npm", "root", "-g"], capture_output=True, text=True).stdout.strip()
    os.environ["NODE_PATH"] = modules
    world.run("node", "-e", script, world.host, str(world.port), USER, PASSWORD)
    world.same_tree(world.tree, world.here / "got")
    world.same_tree(world.tree, world.up / "back")


def rclone(world):
    hidden = world.run("rclone", "obscure", PASSWORD).strip()
    remote = f":ftp,host={world.host},port={world.port},user={USER},pass={hidden}:"
    world.run("rclone", "copy", "--retries", "1", f"{remote}Tree", "got")
    world.same_tree(world.tree, world.here / "got")
    world.run("rclone", "sync", "--retries", "1", "got", f"{remote}Up/back")
    world.same_tree(world.tree, world.up / "back")
    world.run("rclone", "check", "--retries", "1", "got", f"{remote}Up/back")


# Each with the program that it needs and where that comes from.
CLIENTS = {
    "curl": (curl, "curl", ["apt-get", "curl"]),
    "lftp": (lftp, "lftp", ["apt-get", "lftp"]),
    "ncftp": (ncftp, "ncftpget", ["apt-get", "ncftp"]),
    "wget": (wget, "wget", ["apt-get", "wget"]),
    "tnftp": (tnftp, "tnftp", ["apt-get", "tnftp"]),
    "python": (python, "python3", ["apt-get", "python3"]),
    "perl": (perl, "perl", ["apt-get", "perl"]),
    "basic-ftp": (basic_ftp, "node", ["npm", "basic-ftp"]),
    "rclone": (rclone, "rclone", ["apt-get", "rclone"]),
}


def install(how, what):
    if how == "npm":
        subprocess.run(["npm", "install", "--silent", "-g", what], check=True, timeout=PATIENCE_SECONDS)
    elif shutil.which(CLIENTS[what][1] if what in CLIENTS else what) is None:
        quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        subprocess.run(["apt-get", "install", "-qqy", what], check=True, timeout=PATIENCE_SECONDS, env=quiet)


def is_here(name):
    if shutil.which(CLIENTS[name][1]) is None:
        return False
    if name != "basic-ftp":
        return True
    return subprocess.run(["npm", "list", "-g", "basic-ftp"], capture_output=True).returncode == 0


def main():
    wanted = [word for word in sys.argv[1:] if word != "--install"]
    if unknown := set(wanted) - set(CLIENTS):
        sys.exit(f"clients: {', '.join(sorted(unknown))}: expected one of {', '.join(CLIENTS)}")
    subprocess.run(["cargo", "build", "--release", "--quiet"], cwd=ROOT, check=True)
    failures = 0
    for name in wanted or CLIENTS:
        play, _, source = CLIENTS[name]
        if "--install" in sys.argv:
            install(*source)
        if not is_here(name):
            print(f"{name:10} skipped: it is not here; --install brings it", flush=True)
            continue
        with tempfile.TemporaryDirectory() as folder:
            world = World(folder)
            try:
                play(world)
                world.close()
                print(f"{name:10} ok", flush=True)
            except (Failed, ftplib.Error, subprocess.TimeoutExpired, OSError) as error:
                failures += 1
                print(f"{name:10} FAILED: {error}", flush=True)
            finally:
                world.server.kill()
                world.server.wait()
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
