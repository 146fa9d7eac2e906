#!/usr/bin/env python3
"""Proves that the tests find something: plants one bug after the other and shows which test catches each.

    scripts/plant-bugs           every patch of tests/planted/
    scripts/plant-bugs NAME…     those alone, by file name or the beginning of one

Each patch is applied to a copy of the tree in target/planted, which has a build folder of its own; the tree itself is not
touched. The tests run in stages, the quick ones first, and the first failure ends a bug's run; a test that does not end
in its time has caught the bug too. The simulation is the first stage: where another test is named, it has passed. A
test with real processes counts only if it fails again by itself, since on a busy machine it may be late. Before all of
that the copy has to pass without a bug. Status 1 where a bug survives, where a patch no longer applies or where what it
makes does not compile.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

TREE = Path(__file__).resolve().parent.parent
WORK = TREE / "target" / "planted"
COPY = WORK / "tree"
PATCHES = TREE / "tests" / "planted"
BUILD_SECONDS = 900
SURVIVES = "SURVIVES"
# What is run, in this order: the test binary, its arguments, the seconds within which it has to end, and whether it may
# fail because the machine is busy. The simulation and the unit tests need no socket and no process; what follows is
# tests/it against a running server, but for a sweep over every way to cut a turn, which takes minutes without optimisation.
STAGES = [
    ("it", ["simulation"], 600, False),
    ("tidegate", [], 600, False),
    ("it", ["dialogues", "uploads", "life", "accounts::reload"], 600, True),
    ("it", ["downloads", "sockets", "netcat", "--skip", "wherever_the_commands"], 600, True),
    ("it", ["ftp", "limits", "--skip", "simulation", "--skip", "dialogues"], 600, True),
]


def main():
    names = sys.argv[1:]
    if any(name.startswith("-") for name in names):
        print(__doc__.strip(), file=sys.stderr)
        sys.exit(2)
    patches = [p for p in sorted(PATCHES.glob("*.patch")) if not names or any(p.stem.startswith(n) for n in names)]
    if not patches:
        sys.exit("plant-bugs: no such patch")
    sources = read_sources()
    shutil.rmtree(COPY, ignore_errors=True)
    copy(sources)
    failed, told = run_tests()
    if failed or told != SURVIVES:
        sys.exit(f"plant-bugs: without any bug this fails already: {told}")
    width = max(len(patch.stem) for patch in patches)
    survivors = simulated = 0
    for patch in patches:
        copy(sources)
        applied = run(["git", "apply", "-C1", str(patch)], 60).returncode == 0
        caught, told = run_tests() if applied else (False, "the patch no longer applies")
        survivors += not caught
        simulated += caught and told.startswith("simulation::")
        print(f"{patch.stem:{width}}  {told}", flush=True)
    print(f"{len(patches)} planted, {len(patches) - survivors} caught, {simulated} of them by the simulation alone")
    sys.exit(1 if survivors else 0)


def read_sources():
    """The tree as it is now, so that who goes on editing it changes nothing here."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=TREE, capture_output=True, check=True
    )
    names = [name for name in listed.stdout.decode().split("\0") if name and (TREE / name).is_file()]
    return {name: (TREE / name).read_bytes() for name in names}


def copy(sources):
    """Makes the copy like the tree. What is alike is left alone, so that cargo sees what has changed and no more."""
    for name, content in sources.items():
        target = COPY / name
        if not target.is_file() or target.read_bytes() != content:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
            shutil.copymode(TREE / name, target)


def run_tests():
    """Whether a test catches the bug that is in the copy, and what is to be told of it."""
    for target, arguments, seconds, is_timed in STAGES:
        what = ["--lib"] if target == "tidegate" else ["--test", target]
        built = run(["cargo", "test", "--quiet", "--no-run", "--message-format=json", *what], BUILD_SECONDS)
        if built.returncode != 0:
            return False, "does not compile: " + first_error(built.stdout)
        program = executable(built.stdout, target)
        test = run([program, *arguments], seconds)
        if test.returncode == 0:
            continue
        name, told = failure(test)
        alone = run([program, "--exact", name], seconds) if name and is_timed else test
        if alone.returncode != 0:
            return True, told
    return False, SURVIVES


def run(command, seconds):
    """Runs a command in the copy, and ends it and all that it started when its time is over: returncode -9 then."""
    environment = {
        **os.environ,
        "CARGO_TARGET_DIR": str(WORK / "build"),
        "RUST_BACKTRACE": "0",
        "CARGO_PROFILE_DEV_DEBUG": "0",  # half the time of a build
        "GIT_CEILING_DIRECTORIES": str(WORK),  # the copy is no part of the repository that it lies in
    }
    child = subprocess.Popen(
        command, cwd=COPY, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )
    try:
        output, _ = child.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)
        output, _ = child.communicate()
    return subprocess.CompletedProcess(command, child.returncode, output)


def messages(output):
    for line in output.splitlines():
        if line.startswith("{"):
            yield json.loads(line)


def executable(output, target):
    for message in messages(output):
        if message.get("executable") and message["target"]["name"] == target and message["profile"]["test"]:
            return message["executable"]
    sys.exit(f"plant-bugs: cargo built no test {target}")


def first_error(output):
    for message in messages(output):
        if message.get("message", {}).get("level") == "error":
            return message["message"]["message"].splitlines()[0]
    return "the build did not end in time"


def failure(test):
    """The first test that failed, and what is told of it: its name, the seed, the first line of what it said."""
    if test.returncode == -signal.SIGKILL:
        late = re.search(r"^test (\S+) has been running", test.stdout, re.MULTILINE)
        return None, f"{late.group(1) if late else 'a test'}: does not end"
    name = re.search(r"^test (\S+) \.\.\. FAILED$", test.stdout, re.MULTILINE)
    if not name:
        return None, f"status {test.returncode}: {test.stdout[-200:]!r}"
    output = re.search(rf"^---- {name.group(1)} stdout ----$(.*?)^---- ", test.stdout + "---- ", re.MULTILINE | re.DOTALL)
    output = output.group(1) if output else test.stdout
    seed = re.search(r"TIDEGATE_SEED=\d+", output)
    said = re.search(r"panicked at [^\n]*\n([^\n]*)", output)
    parts = [name.group(1), seed and seed.group(), said and said.group(1)[:120]]
    told = ": ".join(part for part in parts if part)
    return name.group(1), "".join(letter if letter.isprintable() else "." for letter in told)


if __name__ == "__main__":
    main()
