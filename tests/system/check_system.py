"""Runs the tests that need programs beyond the Rust toolchain, and prints a table of the results.

    scripts/check --system [NAME...]

NAME is a row of the table; all run by default. A test whose program is missing is skipped. The exit
status is 1 if a test failed.
"""

import re
import subprocess
import sys

sys.dont_write_bytecode = True

from server import ROOT

# Programs that print one line per case, as `server.run_cases` does.
PROGRAMS = {
    "faults": ["scripts/faults"],
    "clients": ["scripts/clients"],
    "peer-suites": ["scripts/peer-suites"],
    "fail2ban": ["scripts/check-fail2ban"],
    "soak": ["scripts/soak", "1"],
}
CASE = re.compile(r"(\S+) +(ok|skipped|FAILED)\b *(.*)")


def run(command):
    """Runs a program, shows its output, and returns its cases and exit status."""
    cases = []
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as child:
        for line in child.stdout:
            print(line, end="", flush=True)
            if found := CASE.match(line):
                cases.append(found.groups())
    return cases, child.returncode


def main():
    names = sys.argv[1:] or list(PROGRAMS)
    if unknown := set(names) - set(PROGRAMS):
        sys.exit(f"check --system: no test '{unknown.pop()}'; tests: {' '.join(PROGRAMS)}")
    rows = []
    for name in names:
        print(f"== {name}", flush=True)
        cases, status = run(PROGRAMS[name])
        if status != 0 and not any(result == "FAILED" for _, result, _ in cases):
            cases.append((name, "FAILED", f"exit status {status}"))
        rows += [(name, *case) for case in cases]
    print("\n== results")
    for name, case, result, details in rows:
        passed = {"ok": "passed", "FAILED": "failed"}.get(result, result)
        reason = "" if result == "ok" else f": {details}"
        print(f"{name:<12} {case:<40} {passed}{reason}"[:160])
    counts = {kind: sum(row[2] == kind for row in rows) for kind in ["ok", "FAILED", "skipped"]}
    print(f"{counts['ok']} passed, {counts['FAILED']} failed, {counts['skipped']} skipped")
    return 1 if counts["FAILED"] else 0


if __name__ == "__main__":
    sys.exit(main())
