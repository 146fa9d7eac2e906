"""A server for test suites that bring their own client."""

from server import Home, Server, free_port


class PeerServer(Server):
    """Serves `folder` as the directory Home: `user` may do everything, `anonymous` may read."""

    def __init__(self, folder, host="127.0.0.1"):
        grants = [f"user:Home:read,change:{folder}", f"anonymous:Home:read:{folder}"]
        self.home = Home({"user": "12345"}, grants)
        with open(self.home.path / "Credentials", "a") as file:
            file.write("anonymous:anyone\n")
        self.host = host
        options = ["--log-level", "error"]
        address = f"{host}:0"
        if host == "::":
            # Both address families, on the same port.
            port = free_port()
            address = f"[::]:{port}"
            options += ["--ftp", f"0.0.0.0:{port}"]
        elif ":" in host:
            address = f"[{host}]:0"
        super().__init__(self.home, options, menu=None, ftp=address)
        self.port = self.ftp_address[1]

    def stop(self):
        super().stop()
        self.home.remove()
