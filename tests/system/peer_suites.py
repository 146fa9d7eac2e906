"""Runs the functional FTP tests of other projects against tidegate.

    scripts/peer-suites [pyftpdlib | fs] [PYTEST-OPTION...]

The suites are those of pyftpdlib, with its FTP server replaced by tidegate, and of PyFilesystem2's
FTPFS. peers/plugin.py adapts them; peers/reasons.txt lists the tests that do not apply and those
whose result differs on purpose. A listed difference that no longer exists is a failure. Installs
the suites from PyPI into target/peers.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

sys.dont_write_bytecode = True

from server import ROOT, Failed, Skipped, build, program, run_cases

TOOLS = ROOT / "target/peers"
PEERS = Path(__file__).resolve().parent / "peers"
PYFTPDLIB = "pyftpdlib-2.2.0"
REQUIREMENTS = [
    "setuptools<81",  # fs imports pkg_resources, which later versions lack
    "psutil==7.2.2",
    "pytest==9.0.2",
    "pyftpdlib==2.2.0",
    "fs==2.4.16",
]
SUITES = {
    "pyftpdlib": TOOLS / PYFTPDLIB / "tests/test_functional.py",
    "fs": PEERS / "test_ftpfs.py",
}


def install():
    """Installs the suites, unless an earlier run has done so."""
    ready = TOOLS / "ready"
    if ready.exists():
        return
    shutil.rmtree(TOOLS, ignore_errors=True)
    command = [sys.executable, "-m", "venv", TOOLS / "venv"]
    if subprocess.run(command, capture_output=True).returncode != 0:
        raise Skipped("needs python3-venv")
    pip = TOOLS / "venv/bin/pip"
    subprocess.run([pip, "install", "--quiet", *REQUIREMENTS], check=True)
    # The tests are in the source distribution only.
    options = ["--quiet", "--no-deps", "--no-binary", ":all:", "--dest", TOOLS]
    subprocess.run([pip, "download", *options, "pyftpdlib==2.2.0"], check=True)
    shutil.unpack_archive(TOOLS / f"{PYFTPDLIB}.tar.gz", TOOLS, filter="data")
    ready.touch()


def run_suite(name, options):
    install()
    # The tests of pyftpdlib serve their working directory.
    folder = TOOLS / f"{name}.tmp"
    folder.mkdir(exist_ok=True)
    paths = [TOOLS / PYFTPDLIB, PEERS, PEERS.parent]
    python = TOOLS / "venv/bin/python"
    flags = ["-W", "ignore", "-m", "pytest", "-q", "-c", "/dev/null", "--rootdir", "/"]
    plugins = ["-p", "plugin", "-p", "no:cacheprovider", "--tb=short"]
    try:
        result = subprocess.run(
            [python, *flags, *plugins, *options, SUITES[name]],
            cwd=folder,
            env={
                **os.environ,
                "PYTHONPATH": ":".join(map(str, paths)),
                "PYTHONDONTWRITEBYTECODE": "1",
                "TIDEGATE": str(program()),
            },
            stdout=subprocess.PIPE,
            text=True,
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if result.returncode != 0:
        raise Failed(result.stdout)
    return result.stdout.strip().splitlines()[-1]


def main():
    arguments = sys.argv[1:]
    names = [arguments.pop(0)] if arguments and arguments[0] in SUITES else SUITES
    build()
    return run_cases({name: lambda name=name: run_suite(name, arguments) for name in names})


if __name__ == "__main__":
    sys.exit(main())
