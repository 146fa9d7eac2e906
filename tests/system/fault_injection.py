"""Compiles the preloaded library that injects faults, and controls it."""

import mmap
import shutil
import struct
import subprocess
import tempfile
from pathlib import Path

from server import needs

# In the order of `struct control` in fault_injection.c.
SWITCHES = [
    "write", "sync", "sendfile", "read", "unnamed", "link", "kill_at", "changes", "sync_seconds",
]


class FaultInjector:
    """The switches of all processes that are started with `environment`."""

    preload_path = None

    def __init__(self, home):
        if FaultInjector.preload_path is None:
            FaultInjector.preload_path = compile_library()
        path = home.folder / "switches"
        path.write_bytes(bytes(4 * len(SWITCHES)))
        self.environment = {
            "LD_PRELOAD": str(FaultInjector.preload_path),
            "TIDEGATE_FAULTS": str(path),
        }
        with open(path, "r+b") as file:
            self.memory = mmap.mmap(file.fileno(), 0)

    def set(self, **switches):
        """Sets switches: an errno value for a call that shall fail, 0 for normal operation."""
        for name, value in switches.items():
            struct.pack_into("i", self.memory, 4 * SWITCHES.index(name), value)

    @classmethod
    def remove_library(cls):
        if cls.preload_path:
            shutil.rmtree(cls.preload_path.parent, ignore_errors=True)
            cls.preload_path = None


def compile_library():
    needs("cc")
    folder = Path(tempfile.mkdtemp(prefix="tidegate-faults-"))
    library = folder / "fault_injection.so"
    source = Path(__file__).parent / "fault_injection.c"
    flags = ["-shared", "-fPIC", "-O1", "-Wall", "-Werror"]
    subprocess.run(["cc", *flags, "-o", library, source, "-ldl"], check=True)
    return library
