"""Runs the tests against known bugs: each patch of tests/mutants has to make a test fail.

Applies each patch to a copy of the tree in target/mutants, with a build folder of its own, and runs
the tests in stages until one fails. A test that does not end in time counts as failed. A test with
real processes counts only if it fails again when run alone. Before that, all stages have to pass
without a patch. A patch may name the test that is run first: `Caught-by: TARGET TEST`, in a line
of its own before the diff. The exit status is 1 if a bug is not caught, or if a patch does not
apply or compile.
"""

import argparse
import json
import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

sys.dont_write_bytecode = True

from server import ROOT, Failed, check

WORK = ROOT / "target/mutants"
PATCHES = ROOT / "tests/mutants"
BUILD_SECONDS = 900
TEST_SECONDS = 600
# Test target and arguments. The first two stages need no sockets and no processes, so that a
# failure there does not depend on the load of the machine. The last one leaves out what is not
# about the running server.
STAGES = [
    ("it", ["simulation"]),
    ("tidegate", []),
    ("it", []),
]
NOT_IN_LAST_STAGE = ["simulation", "architecture", "client::", "sandbox"]
STAGES[-1][1].extend(word for name in NOT_IN_LAST_STAGE for word in ("--skip", name))


class Patch:
    def __init__(self, path):
        self.path = path
        self.name = path.stem
        text = path.read_text()
        self.diff_start = re.search(r"^(diff|---) ", text, re.MULTILINE).start()
        self.header = text[: self.diff_start]
        self.diff = text[self.diff_start :]
        caught_by = re.search(r"^Caught-by: (\S+) (\S+)$", self.header, re.MULTILINE)
        self.caught_by = caught_by.groups() if caught_by else None

    def error(self, tree):
        """Returns why the patch does not apply to a tree, or None."""
        result = git_apply(self.path, tree, "--check")
        return None if result.returncode == 0 else result.stderr.splitlines()[0]

    def record(self, target, test):
        """Writes the test that catches the bug into the header."""
        lines = [line for line in self.header.strip().split("\n") if "Caught-by: " not in line]
        header = "\n".join([*lines, f"Caught-by: {target} {test}"])
        self.path.write_text(f"{header}\n\n{self.diff}")


def git_apply(path, tree, *options):
    # The copy is in a folder of the repository, but not a part of it.
    environment = {**os.environ, "GIT_CEILING_DIRECTORIES": str(tree.parent)}
    command = ["git", "apply", "-C1", *options, str(path)]
    return subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True)


def read_sources():
    """Reads the files of the tree, so that later edits do not affect this run."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, text=True).stdout
    paths = [name for name in names.split("\0") if name and (ROOT / name).is_file()]
    return {path: (ROOT / path).read_bytes() for path in paths}


class Worker:
    """A copy of the tree with its own build folder."""

    children = set()  # running processes of all workers

    def __init__(self, number, sources):
        self.folder = WORK / str(number)
        self.tree = self.folder / "tree"
        self.sources = sources

    def restore(self):
        """Makes the copy equal to the tree. Writes changed files only, to keep the build small."""
        for path in self.tree.rglob("*"):
            if path.is_file() and str(path.relative_to(self.tree)) not in self.sources:
                path.unlink()
        for name, content in self.sources.items():
            target = self.tree / name
            if not target.is_file() or target.read_bytes() != content:
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(content)
                shutil.copymode(ROOT / name, target)

    def verify_baseline(self):
        """Fails unless all stages pass without a patch."""
        self.restore()
        for target, arguments in STAGES:
            test = self.run([self.build(target), *arguments], TEST_SECONDS)
            message = f"without a patch: {target} {' '.join(arguments)}"
            check(test.returncode == 0, f"{message}: {describe_failure(test)[1]}")
            count = re.search(r"^running (\d+) tests?$", test.stdout, re.MULTILINE)
            check(count and int(count[1]) > 0, f"{message}: no test matches")

    def catch(self, patch):
        """Returns the target and name of the test that catches a bug, and its message.

        Fails if no test does, or if the patch cannot be tested.
        """
        self.restore()
        applied = git_apply(patch.path, self.tree)
        check(applied.returncode == 0, f"does not apply: {applied.stderr.strip()[:200]}")
        if patch.caught_by:
            target, name = patch.caught_by
            caught = self.run_stage(target, ["--exact", name])
            if caught:
                return caught
        for target, arguments in STAGES:
            caught = self.run_stage(target, arguments)
            if caught:
                return caught
        raise Failed("NOT CAUGHT")

    def run_stage(self, target, arguments):
        """Runs tests up to the first failure, which counts if the test fails alone too."""
        program = self.build(target)
        passed_alone = []
        while len(passed_alone) < 3:
            skipped = [word for name in passed_alone for word in ("--skip", name)]
            command = [program, *arguments, *skipped]
            test = self.run(command, TEST_SECONDS, stop_at_failure=True)
            if test.returncode == 0:
                return None
            name, message = describe_failure(test)
            if name is None:
                return target, name, message
            alone = self.run([program, "--exact", name], TEST_SECONDS)
            if alone.returncode != 0:
                return target, name, describe_failure(alone)[1]
            passed_alone.append(name)
        return None

    def build(self, target):
        """Builds a test target and returns the path of its executable."""
        selection = ["--lib"] if target == "tidegate" else ["--test", target]
        command = ["cargo", "test", "--quiet", "--no-run", "--message-format=json", *selection]
        built = self.run(command, BUILD_SECONDS)
        messages = [json.loads(line) for line in built.stdout.splitlines() if line[:1] == "{"]
        if built.returncode != 0:
            errors = [message.get("message", {}) for message in messages]
            texts = [error["message"] for error in errors if error.get("level") == "error"]
            raise Failed("does not compile: " + (texts or ["timeout"])[0].splitlines()[0])
        for message in messages:
            if message.get("executable") and message["target"]["name"] == target:
                if message["profile"]["test"]:
                    return message["executable"]
        raise Failed(f"cargo has built no test target {target}")

    def run(self, command, seconds, stop_at_failure=False):
        """Runs a command in the copy; kills it, with its children, when the time is over.

        With `stop_at_failure` kills it after the first failed test too.
        """
        environment = {
            **os.environ,
            "CARGO_TARGET_DIR": str(self.folder / "build"),
            "CARGO_PROFILE_DEV_DEBUG": "0",  # halves the time of a build
            "RUST_BACKTRACE": "0",
        }
        child = subprocess.Popen(
            command,
            cwd=self.tree,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        Worker.children.add(child)
        timer = threading.Timer(seconds, kill_group, [child])
        timer.start()
        output = []
        for line in child.stdout:
            output.append(line)
            if stop_at_failure and re.match(r"test \S+ \.\.\. FAILED", line):
                kill_group(child)
                break
        child.stdout.close()
        status = child.wait()
        timer.cancel()
        Worker.children.discard(child)
        return subprocess.CompletedProcess(command, status, "".join(output))


def kill_group(child):
    """Kills a process and those that it has started."""
    try:
        os.killpg(child.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def describe_failure(test):
    """Returns the name of the first failed test, and its name, seed and panic message."""
    name = re.search(r"^test (\S+) \.\.\. FAILED$", test.stdout, re.MULTILINE)
    if not name:
        slow = re.search(r"^test (\S+) has been running", test.stdout, re.MULTILINE)
        if test.returncode == -signal.SIGKILL:
            return slow and slow[1], f"{slow[1] if slow else 'a test'}: does not end"
        return None, f"status {test.returncode}: {test.stdout[-200:]!r}"
    seed = re.search(r"TIDEGATE_SEED=\d+", test.stdout)
    panic = re.search(r"panicked at [^\n]*\n([^\n]*)", test.stdout)
    parts = [name[1], seed and seed[0], panic and panic[1][:120]]
    message = ": ".join(part for part in parts if part)
    return name[1], "".join(letter if letter.isprintable() else "." for letter in message)


def run_worker(worker, patches, results, with_baseline):
    """Takes patches from a queue until it is empty; empties it if the baseline fails."""
    try:
        if with_baseline:
            worker.verify_baseline()
    except Failed as error:
        print(f"mutants: {error}", file=sys.stderr, flush=True)
        results["baseline"] = None
        while not patches.empty():
            patches.get()
    try:
        while True:
            patch = patches.get_nowait()
            try:
                results[patch] = worker.catch(patch)
                print(f"{patch.name}: {results[patch][2]}", flush=True)
            except Failed as error:
                results[patch] = None
                print(f"{patch.name}: {error}", flush=True)
    except queue.Empty:
        pass


def run_patches(patches, arguments):
    sources = read_sources()
    waiting = queue.SimpleQueue()
    for patch in patches:
        waiting.put(patch)
    results = {}
    if arguments.worker is None:
        numbers = range(min(arguments.workers, len(patches)))
    else:
        numbers = [arguments.worker]
    threads = []
    for number in numbers:
        # The copies are equal, so that one baseline is enough; the others start at once.
        with_baseline = not arguments.no_baseline and number == numbers[0]
        worker = Worker(number, sources)
        parameters = (worker, waiting, results, with_baseline)
        threads.append(threading.Thread(target=run_worker, args=parameters))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    caught = {patch: result for patch, result in results.items() if result}
    if arguments.record:
        for patch, (target, name, _) in caught.items():
            if name and patch.caught_by != (target, name):
                patch.record(target, name)
    simulated = sum("simulation::" in (name or "") for _, name, _ in caught.values())
    print(f"{len(patches)} mutants, {len(caught)} caught, {simulated} of them by the simulation")
    return 0 if len(caught) == len(patches) and "baseline" not in results else 1


def check_patches(patches):
    failures = 0
    for patch in patches:
        error = patch.error(ROOT)
        failures += error is not None
        if error:
            print(f"{patch.name}: {error}")
    print(f"{len(patches)} mutants, {len(patches) - failures} apply")
    return 1 if failures else 0


def save_patch(name, description):
    command = ["git", "diff", "--no-ext-diff", "--no-color", "--", "src"]
    diff = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    diff = re.sub(r"^(diff --git|index) .*\n", "", diff, flags=re.MULTILINE)
    path = PATCHES / f"{name}.patch"
    if not diff:
        sys.exit("mutants: src has no uncommitted changes; plant the bug there, then save it")
    if not description and not path.exists():
        sys.exit(f"mutants: {name} is new; give a description: --save NAME DESCRIPTION")
    header = f"{description}\n\n" if description else Patch(path).header
    path.write_text(header + diff)
    print(f"saved {path.relative_to(ROOT)}; remove the bug by: git restore src")


def terminate(*_):
    for child in list(Worker.children):
        kill_group(child)
    os._exit(1)


def select_patches(names):
    """Returns the patches with exactly these names or, for other names, those that start so."""
    patches = {path.stem: Patch(path) for path in sorted(PATCHES.glob("*.patch"))}
    if not names:
        return list(patches.values())
    selected = []
    for name in names:
        found = [name] if name in patches else [stem for stem in patches if stem.startswith(name)]
        if not found:
            sys.exit(f"mutants: no patch '{name}'")
        selected += [patches[stem] for stem in found]
    return selected


def main():
    parser = argparse.ArgumentParser(
        prog="scripts/mutants",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", help="patches whose names start so; all by default")
    parser.add_argument("--check", action="store_true", help="only test whether they apply")
    parser.add_argument(
        "--save",
        action="store_true",
        help="NAME [DESCRIPTION]: replace the diff of a patch by the uncommitted changes of src",
    )
    parser.add_argument("--record", action="store_true", help="write Caught-by lines")
    parser.add_argument("--workers", type=int, default=2, help="number of copies (2)")
    parser.add_argument("--worker", type=int, help="use only the copy of this number")
    parser.add_argument("--no-baseline", action="store_true", help="do not test the tree first")
    arguments = parser.parse_args()
    if arguments.save:
        return save_patch(arguments.names[0], " ".join(arguments.names[1:]))
    patches = select_patches(arguments.names)
    signal.signal(signal.SIGTERM, terminate)
    signal.signal(signal.SIGINT, terminate)
    if arguments.check:
        return check_patches(patches)
    return run_patches(patches, arguments)


if __name__ == "__main__":
    sys.exit(main())
