"""A tidegate over a home of its own, for tests that bring their own client."""

import os
import socket
import subprocess
import tempfile

PROGRAM = os.environ["TIDEGATE"]


class Server:
    """Serves `folder` as the directory Home, to `user` for everything and to `anonymous` for reading."""

    def __init__(self, folder, host="127.0.0.1"):
        self.home = tempfile.TemporaryDirectory()
        with open(os.path.join(self.home.name, "Credentials"), "w") as file:
            file.write("user:plain:12345\nanonymous:anyone\n")
        os.chmod(file.name, 0o600)
        with open(os.path.join(self.home.name, "Directories"), "w") as file:
            file.write(f"user:Home:read,change:{folder}\nanonymous:Home:read:{folder}\n")
        addresses = {"::": "[::]:{0},0.0.0.0:{0}", "::1": "[::1]:0"}.get(host, f"{host}:0").format(free_port())
        command = [PROGRAM, "serve", self.home.name, "--log-level", "error"]
        for address in addresses.split(","):
            command += ["--ftp", address]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()  # listening on ADDR:PORT (ftp)
        self.host = host
        self.port = int(line.split()[2].rsplit(":", 1)[1])

    def stop(self):
        self.process.terminate()
        ending = self.process.wait(timeout=60)
        self.process.stdout.close()
        self.home.cleanup()
        assert ending == 0, f"the server ended with {ending}"


def free_port():
    """A port that is free for both families at this moment."""
    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as listener:
        return listener.getsockname()[1]
