"""Compares tidegate with other servers in interleaved rounds.

    scripts/bench --install-peers   installs the other servers
    scripts/bench [OPTIONS]         runs the rounds

Writes benches/results/<date>, or benches/results/<date>-ftp with --ftp, after each case. A second
run with the same folder continues an interrupted run, or adds rounds to a complete one.

nginx, lighttpd and vsftpd are installed from Debian's packages without starting them. pure-ftpd,
which Debian does not install next to another FTP server, and pyftpdlib from PyPI are unpacked into
target/bench-peers.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

sys.dont_write_bytecode = True

from server import ROOT

PEERS = ROOT / "target/bench-peers"
PACKAGES = ["nginx-light", "lighttpd", "lighttpd-mod-webdav", "vsftpd", "python3-venv"]


def install_peers():
    # A status of 101 keeps packages from starting their services.
    policy = Path("/usr/sbin/policy-rc.d")
    is_own_policy = not policy.exists()
    if is_own_policy:
        policy.write_text("#!/bin/sh\nexit 101\n")
        policy.chmod(0o755)
    try:
        run("apt-get", "update", "-qq")
        run("apt-get", "install", "-qq", "-y", "--no-install-recommends", *PACKAGES)
    finally:
        if is_own_policy:
            policy.unlink()
    PEERS.mkdir(parents=True, exist_ok=True)
    if not (PEERS / "pure-ftpd/usr/sbin/pure-ftpd").exists():
        run("apt-get", "download", "-qq", "pure-ftpd")
        package = next(PEERS.glob("pure-ftpd_*.deb"))
        run("dpkg-deb", "--extract", package, "pure-ftpd")
    python = PEERS / "pyftpdlib/bin/python"
    if not python.exists():
        run("python3", "-m", "venv", PEERS / "pyftpdlib")
    run(python, "-m", "pip", "install", "--quiet", "pyftpdlib==2.2.0")


def run(*command):
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    folder = PEERS if PEERS.exists() else ROOT
    subprocess.run(command, cwd=folder, env=environment, check=True)


def main():
    parser = argparse.ArgumentParser(
        prog="scripts/bench",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--install-peers", action="store_true", help="install the other servers")
    parser.add_argument("--ftp", action="store_true", help="measure FTP")
    parser.add_argument("--full", action="store_true", help="measure all cases")
    parser.add_argument("--out", help="folder of the results")
    parser.add_argument("--only", help="cases that contain these words")
    parser.add_argument("--servers", help="names of servers")
    parser.add_argument("--rounds", help="number of rounds")
    parser.add_argument("--seconds", help="duration of one load")
    parser.add_argument("--attempts", help="repetitions of a disturbed run")
    parser.add_argument("--within", help="seconds after which no run is started")
    parser.add_argument("--before", help="an earlier build of tidegate, measured next to this one")
    parser.add_argument("--nice", default="0", help="priority of the server and the clients")
    arguments = parser.parse_args()
    if arguments.install_peers:
        return install_peers()
    command = ["cargo", "bench", "--quiet", "--bench", "load", "--", "--nice", arguments.nice]
    if arguments.before:
        command += ["--before", str(Path(arguments.before).resolve())]
    command.append("rounds")
    if arguments.out:
        arguments.out = str(Path(arguments.out).resolve())
    for name in ["out", "only", "servers", "rounds", "seconds", "attempts", "within"]:
        if value := getattr(arguments, name):
            command += [f"--{name}", value]
    command += [f"--{name}" for name in ["ftp", "full"] if getattr(arguments, name)]
    os.chdir(ROOT)
    os.execvp("cargo", command)


if __name__ == "__main__":
    main()
