"""Injects faults into a running server, one case after the other.

    scripts/faults           all cases, in a few minutes
    scripts/faults NAME...   the named cases

Each line of the output gives the result of a case, the number and the 99th percentile of the small
downloads that another client made meanwhile, and the memory and descriptors that the server has
gained. The exit status is 1 if a case failed. All files are in temporary folders. The case of a
full disk mounts a small tmpfs, which only root can do.
"""

import sys
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from fault_injection import FaultInjector
from faults import disk, kills, limits, mount_stops, mounts, traffic
from faults.case import CASES
from server import build, raise_descriptor_limit, run_cases
from slow_mount import enter_private_mounts

assert disk and kills and limits and mount_stops and mounts and traffic  # they register their cases


def main():
    names = sys.argv[1:]
    if any(name not in CASES for name in names):
        print(__doc__.strip(), "\n\nNAMES: " + " ".join(CASES), sep="", file=sys.stderr)
        return 2
    build()
    raise_descriptor_limit()
    enter_private_mounts()
    try:
        return run_cases({name: CASES[name] for name in names or CASES})
    finally:
        FaultInjector.remove_library()


if __name__ == "__main__":
    sys.exit(main())
