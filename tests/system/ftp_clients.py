"""Runs third-party FTP clients against the server and compares every file byte by byte.

    scripts/clients [--install] [CLIENT...]

Each client downloads, uploads, resumes, lists and mirrors as far as it can. Without CLIENT all of
them run. `--install` installs missing clients by apt-get and npm; otherwise they are skipped.
Prints one line for each client. The exit status is 1 if one failed.
"""

import filecmp
import ftplib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

sys.dont_write_bytecode = True

from server import Failed, Home, Server, Skipped, build, check, needs, run_cases

FILES = 1000
USER, PASSWORD = "anna", "secret"
NAMES = [
    "with space",
    "-leading dash",
    "quote'd \"twice\"",
    "größe und 文字",
    "semi;colon & amp",
    "percent%20",
]
TIMEOUT_SECONDS = 180


class Environment:
    """A server, a directory Tree to download, a directory Up to upload to, and a local folder."""

    def __init__(self, home):
        self.folder = home.folder
        self.tree = home.files / "Tree"
        self.up = home.files / "Up"
        for number in range(FILES):
            path = self.tree / f"{number % 10}" / f"file {number:04}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(bytes((number + at) % 251 for at in range(number * 7)))
        for name in NAMES:
            (self.tree / name).write_bytes(name.encode() * 100)
        self.big = self.tree / "big"
        self.big.write_bytes(os.urandom(3_000_000))
        self.local = self.folder / "local"
        self.local.mkdir()
        self.server = Server(home, ["--log-level", "error"], menu=None)
        self.host, port = self.server.ftp_address
        self.port = str(port)

    def url(self, path):
        return f"ftp://{USER}:{PASSWORD}@{self.host}:{self.port}/{path}"

    def run(self, *command, text=None, environment=None):
        """Runs a client in the local folder and returns its output."""
        result = subprocess.run(
            command,
            cwd=self.local,
            input=text,
            text=True,
            capture_output=True,
            timeout=TIMEOUT_SECONDS,
            env={
                **os.environ,
                "HOME": str(self.folder),
                "LC_ALL": "C.UTF-8",
                **(environment or {}),
            },
        )
        output = (result.stderr or result.stdout).strip()[-400:]
        check(result.returncode == 0, f"{command[0]}: status {result.returncode}: {output}")
        return result.stdout

    def compare(self, one, other):
        check(filecmp.cmp(one, other, shallow=False), f"{other} differs from {one}")

    def compare_trees(self, one, other):
        def names(top):
            return {path.relative_to(top) for path in top.rglob("*")}

        difference = sorted(map(str, names(one) ^ names(other)))
        check(not difference, f"{len(difference)} names differ, among them {difference[:3]}")
        for path in names(one):
            if (one / path).is_file():
                self.compare(one / path, other / path)

    def partial_download(self):
        """Makes the file that an interrupted download of `big` leaves, and returns its path."""
        path = self.local / "big"
        path.write_bytes(self.big.read_bytes()[:1_400_000])
        return path


def curl(env):
    listing = env.run("curl", "-sS", "--list-only", env.url("Tree/")).splitlines()
    check(set(NAMES) <= set(listing), f"not listed: {set(NAMES) - set(listing)}")
    half = env.partial_download()
    env.run("curl", "-sS", "-C", "-", "-o", half, env.url("Tree/big"))
    env.compare(env.big, half)
    env.run("curl", "-sS", "--ftp-create-dirs", "-T", half, env.url("Up/new/deep/big"))
    env.compare(env.big, env.up / "new/deep/big")
    env.run("curl", "-sS", "-P", "-", "-o", "active", env.url("Tree/big"))
    env.compare(env.big, env.local / "active")
    for index, name in enumerate(NAMES):
        url = env.url(f"Tree/{quote(name)}")
        env.run("curl", "-sS", "-o", f"named{index}", url)
        env.compare(env.tree / name, env.local / f"named{index}")


def lftp(env):
    settings = "set net:max-retries 2; set net:timeout 30"
    login = f"{settings}; open -u {USER},{PASSWORD} ftp://{env.host}:{env.port}"
    env.run("lftp", "-c", f"{login}; mirror --parallel=4 Tree got")
    env.compare_trees(env.tree, env.local / "got")
    env.run("lftp", "-c", f"{login}; mirror -R --parallel=4 got Up/back")
    env.compare_trees(env.tree, env.up / "back")
    env.partial_download()
    env.run("lftp", "-c", f"{login}; get -c Tree/big")
    env.compare(env.big, env.local / "big")
    env.run("lftp", "-c", f"{login}; mv Up/back/big Up/moved; rm Up/moved; rm -r Up/back")
    check(not (env.up / "back").exists(), "rm -r has left files")


def ncftp(env):
    login = ["-u", USER, "-p", PASSWORD, "-P", env.port]
    env.run("ncftpget", "-V", *login, "-R", env.host, ".", "Tree")
    env.compare_trees(env.tree, env.local / "Tree")
    env.partial_download()
    env.run("ncftpget", "-V", *login, "-z", env.host, ".", "Tree/big")
    env.compare(env.big, env.local / "big")
    env.run("ncftpput", "-V", *login, "-R", env.host, "Up", "Tree")
    env.compare_trees(env.tree, env.up / "Tree")


def wget(env):
    env.run("wget", "-q", "-r", "-nH", "--tries=2", env.url("Tree/"))
    (env.local / ".listing").unlink(missing_ok=True)
    # wget decodes percent escapes in the names of a listing.
    (env.local / "Tree/percent ").rename(env.local / "Tree/percent%20")
    env.compare_trees(env.tree, env.local / "Tree")
    half = env.partial_download()
    env.run("wget", "-q", "-c", "--tries=2", env.url("Tree/big"))
    env.compare(env.big, half)


def tnftp(env):
    commands = [
        f"user {USER} {PASSWORD}", "binary", "prompt", "cd Tree", "ls", "get big",
        'get "with space"', "cd ../Up", "put big", "mkdir sub", "quit", "",
    ]
    env.run("tnftp", "-n", env.host, env.port, text="\n".join(commands))
    env.compare(env.big, env.local / "big")
    env.compare(env.tree / "with space", env.local / "with space")
    env.compare(env.big, env.up / "big")


def python(env):
    with ftplib.FTP(encoding="utf-8") as ftp:
        ftp.connect(env.host, int(env.port), timeout=30)
        ftp.login(USER, PASSWORD)
        listed = {name: facts for name, facts in ftp.mlsd("Tree") if facts["type"] == "file"}
        check(set(listed) == set(NAMES) | {"big"}, f"MLSD lists {sorted(listed)}")
        size = int(listed["big"]["size"])
        check(size == env.big.stat().st_size, f"MLSD reports a size of {size}")
        half = env.partial_download()
        with half.open("ab") as file:
            ftp.retrbinary("RETR Tree/big", file.write, rest=half.stat().st_size)
        env.compare(env.big, half)
        for name in NAMES:
            with (env.tree / name).open("rb") as file:
                ftp.storbinary(f"STOR Up/{name}", file)
            env.compare(env.tree / name, env.up / name)
            ftp.rename(f"Up/{name}", f"Up/{name}.old")
            ftp.delete(f"Up/{name}.old")
        ftp.set_pasv(False)
        with half.open("wb") as file:
            ftp.retrbinary("RETR Tree/big", file.write)
        env.compare(env.big, half)


def perl(env):
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
    env.run("perl", "-e", script, env.host, env.port, USER, PASSWORD)
    env.compare(env.big, env.local / "big")
    env.compare(env.big, env.up / "a/b/big")


def basic_ftp(env):
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
    needs("npm")
    modules = subprocess.run(["npm", "root", "-g"], capture_output=True, text=True).stdout.strip()
    if not Path(modules, "basic-ftp").is_dir():
        raise Skipped("needs the npm package basic-ftp")
    arguments = [env.host, env.port, USER, PASSWORD]
    env.run("node", "-e", script, *arguments, environment={"NODE_PATH": modules})
    env.compare_trees(env.tree, env.local / "got")
    env.compare_trees(env.tree, env.up / "back")


def rclone(env):
    obscured = env.run("rclone", "obscure", PASSWORD).strip()
    remote = f":ftp,host={env.host},port={env.port},user={USER},pass={obscured}:"
    env.run("rclone", "copy", "--retries", "1", f"{remote}Tree", "got")
    env.compare_trees(env.tree, env.local / "got")
    env.run("rclone", "sync", "--retries", "1", "got", f"{remote}Up/back")
    env.compare_trees(env.tree, env.up / "back")
    env.run("rclone", "check", "--retries", "1", "got", f"{remote}Up/back")


# The function, the program that it needs, and the packages that provide it.
CLIENTS = {
    "curl": (curl, "curl", ["apt-get", "curl"]),
    "lftp": (lftp, "lftp", ["apt-get", "lftp"]),
    "ncftp": (ncftp, "ncftpget", ["apt-get", "ncftp"]),
    "wget": (wget, "wget", ["apt-get", "wget"]),
    "tnftp": (tnftp, "tnftp", ["apt-get", "tnftp"]),
    "ftplib": (python, "python3", ["apt-get", "python3"]),
    "perl": (perl, "perl", ["apt-get", "perl"]),
    "basic-ftp": (basic_ftp, "node", ["npm", "basic-ftp"]),
    "rclone": (rclone, "rclone", ["apt-get", "rclone"]),
}


def install(name):
    _, command, (manager, package) = CLIENTS[name]
    if manager == "npm":
        if shutil.which("npm") is None:
            apt_install("npm")
        command = ["npm", "install", "--silent", "-g", package]
        subprocess.run(command, check=True, timeout=TIMEOUT_SECONDS)
    elif shutil.which(command) is None:
        apt_install(package)


def apt_install(package):
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    command = ["apt-get", "install", "-qqy", "--no-install-recommends", package]
    subprocess.run(command, check=True, timeout=TIMEOUT_SECONDS, env=environment)


def run_client(name, with_install):
    client, command, _ = CLIENTS[name]
    if with_install:
        install(name)
    needs(command)
    with Home({USER: PASSWORD}, [f"{USER}:Tree:read", f"{USER}:Up:read,change"]) as home:
        environment = Environment(home)
        with environment.server as server:
            try:
                client(environment)
            except ftplib.Error as error:
                raise Failed(repr(error)) from None
            server.stop()


def main():
    names = [argument for argument in sys.argv[1:] if argument != "--install"]
    with_install = "--install" in sys.argv[1:]
    if unknown := set(names) - set(CLIENTS):
        expected = ", ".join(CLIENTS)
        sys.exit(f"clients: {', '.join(sorted(unknown))}: expected one of {expected}")
    build()
    names = names or CLIENTS
    return run_cases({name: lambda name=name: run_client(name, with_install) for name in names})


if __name__ == "__main__":
    sys.exit(main())
