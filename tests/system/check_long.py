"""Runs everything that is tested, in parts, and records the result of each part per commit.

Parts that have passed on the current commit are skipped, so that an interrupted run can be
continued. Parts that measure time run alone, the others two at a time. The output of a part and
its result are in target/long/COMMIT/PART.log and PART.json. Results are recorded only if the
working tree is clean before and after the part. At the end lists the parts that have passed, failed
or not run. The exit status is 0 only if every part has passed on this commit.
"""

import argparse
import concurrent.futures
import dataclasses
import datetime
import json
import os
import signal
import subprocess
import sys
import threading
import time

sys.dont_write_bytecode = True

from server import ROOT

FUZZ_SECONDS = 60
SOAK_MINUTES = 5
SEEDS = 256  # as many as `cargo test` runs
WORKERS = 2


@dataclasses.dataclass
class Part:
    name: str
    command: list
    alone: bool = False  # needs the whole machine
    is_mutant: bool = False  # gets the number of a worker, and means nothing unless `check` passes
    seeds: int = 0

    def environment(self):
        return {"TIDEGATE_SEEDS": str(self.seeds)} if self.seeds else {}


def all_parts(seeds):
    clippy = ["cargo", "clippy", "--locked", "--manifest-path", "fuzz/Cargo.toml"]
    simulation = ["cargo", "test", "--test", "it", "simulation"]
    parts = [
        Part("check", ["scripts/check"], alone=True),
        Part("sandboxed", ["scripts/test-sandboxed"], alone=True),
        Part("simulation", simulation, alone=True, seeds=seeds),
        Part("faults", ["scripts/faults"], alone=True),
        Part("clients", ["scripts/clients"], alone=True),
        Part("soak", ["scripts/soak", str(SOAK_MINUTES)], alone=True),
        Part("fuzz-clippy", [*clippy, "--", "-D", "warnings"]),
    ]
    for path in sorted((ROOT / "fuzz/fuzz_targets").glob("*.rs")):
        command = ["scripts/fuzz", str(FUZZ_SECONDS), path.stem]
        parts.append(Part(f"fuzz-{path.stem}", command))
    for path in sorted((ROOT / "tests/mutants").glob("*.patch")):
        command = ["scripts/mutants", "--no-baseline", path.stem]
        parts.append(Part(f"mutant-{path.stem}", command, is_mutant=True))
    return parts


def git(*arguments):
    command = ["git", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout


class Records:
    """The results of the parts on one commit."""

    def __init__(self):
        self.commit = git("rev-parse", "HEAD").strip()
        self.folder = ROOT / "target/long" / self.commit
        self.is_enabled = self.tree_is_clean()
        self.folder.mkdir(parents=True, exist_ok=True)

    def tree_is_clean(self):
        head = git("rev-parse", "HEAD").strip()
        return head == self.commit and not git("status", "--porcelain")

    def read(self, part):
        """Returns `passed`, `failed` or None; a run with fewer seeds does not count."""
        try:
            record = json.loads((self.folder / f"{part.name}.json").read_text())
        except FileNotFoundError:
            return None
        return record["result"] if record["seeds"] >= part.seeds else None

    def write(self, part, result, seconds):
        if not self.is_enabled:
            return
        if not self.tree_is_clean():
            print(f"{part.name}: not recorded, since the working tree has changed", flush=True)
            return
        record = {
            "part": part.name,
            "commit": self.commit,
            "result": result,
            "seconds": round(seconds, 1),
            "seeds": part.seeds,
            "command": part.command,
            "finished": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        }
        path = self.folder / f"{part.name}.json"
        path.write_text(json.dumps(record, indent=2) + "\n")


class Runner:
    def __init__(self, records, deadline):
        self.records = records
        self.deadline = deadline
        self.results = {}
        self.children = set()
        self.lock = threading.Lock()
        self.stopping = False
        self.workers = list(range(WORKERS))

    def run_all(self, parts):
        for part in parts:
            if part.alone:
                self.run(part)
        with concurrent.futures.ThreadPoolExecutor(WORKERS) as pool:
            for part in parts:
                if not part.alone:
                    pool.submit(self.run, part)

    def run(self, part):
        if self.stopping or time.monotonic() > self.deadline:
            return
        if part.is_mutant and self.check_result() != "passed":
            return
        with self.lock:
            worker = self.workers.pop()
        start = time.monotonic()
        options = ["--worker", str(worker)] if part.is_mutant else []
        status = self.execute(part, [*part.command, *options])
        seconds = time.monotonic() - start
        with self.lock:
            self.workers.append(worker)
        if self.stopping:
            return
        self.results[part.name] = "passed" if status == 0 else "failed"
        self.records.write(part, self.results[part.name], seconds)
        print(f"{part.name:<50} {self.results[part.name]} {seconds:6.0f} s", flush=True)

    def check_result(self):
        """Returns the result of the part `check`, of this run or recorded."""
        return self.results.get("check") or self.records.read(Part("check", []))

    def execute(self, part, command):
        with open(self.records.folder / f"{part.name}.log", "wb") as log:
            child = subprocess.Popen(
                command,
                cwd=ROOT,
                env={**os.environ, **part.environment()},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            with self.lock:
                self.children.add(child)
            status = child.wait()
            with self.lock:
                self.children.discard(child)
        return status

    def stop(self, *_):
        """Ends the running parts; they count as not run."""
        self.stopping = True
        for child in list(self.children):
            try:
                os.killpg(child.pid, signal.SIGTERM)
            except ProcessLookupError:
                pass


def report(parts, results):
    """Prints the results and returns the exit status."""
    groups = {"passed": [], "failed": [], "not run": []}
    for part in parts:
        groups[results.get(part.name) or "not run"].append(part.name)
    print()
    for result, names in groups.items():
        print(f"{result}: {len(names)} of {len(parts)}")
        for name in names if result != "passed" else []:
            print(f"  {name}")
    return 0 if len(groups["passed"]) == len(parts) else 1


def main():
    parser = argparse.ArgumentParser(
        prog="scripts/check --long",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("parts", nargs="*", help="only parts whose names start so")
    parser.add_argument("--within", type=float, metavar="SECONDS", help="then start no part")
    parser.add_argument("--seeds", type=int, default=SEEDS, help=f"of the simulation ({SEEDS})")
    parser.add_argument("--dirty", action="store_true", help="run a changed tree, unrecorded")
    parser.add_argument("--list", action="store_true", help="only print the recorded results")
    arguments = parser.parse_args()
    parts = all_parts(arguments.seeds)
    selected = [
        part
        for part in parts
        if not arguments.parts or any(part.name.startswith(name) for name in arguments.parts)
    ]
    if not selected:
        sys.exit(f"check --long: no such part; parts: {' '.join(part.name for part in parts)}")
    records = Records()
    if not records.is_enabled and not (arguments.dirty or arguments.list):
        sys.exit("check --long: uncommitted changes; commit them, or use --dirty (not recorded)")
    recorded = {part.name: records.read(part) for part in parts} if records.is_enabled else {}
    deadline = time.monotonic() + arguments.within if arguments.within else float("inf")
    runner = Runner(records, deadline)
    if not arguments.list:
        signal.signal(signal.SIGINT, runner.stop)
        signal.signal(signal.SIGTERM, runner.stop)
        runner.run_all([part for part in selected if recorded.get(part.name) != "passed"])
    print(f"\ncommit {records.commit}, logs in {records.folder.relative_to(ROOT)}", end="")
    return report(parts, {**recorded, **runner.results})


if __name__ == "__main__":
    sys.exit(main())
