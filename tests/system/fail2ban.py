"""Checks that fail2ban's filter finds every failed login in the log, with its real address.

    scripts/check-fail2ban

The log is written by a real server, in both formats. It is checked as it is and with the prefixes
that the journal and syslog add. Some usernames imitate the fields of a log line, in order to inject
another address; known users can have some of them. Needs fail2ban-regex.
"""

import socket
import subprocess
import sys

sys.dont_write_bytecode = True

from server import ROOT, Home, Server, build, check, needs, run_cases

FILTER = ROOT / "packaging/fail2ban/filter.d/tidegate.conf"
# Users of the home.
USERS = [
    "user",
    "some user",
    'x" from=9.9.9.9',
    "x from=9.9.9.9",
    "x\\",
    '","from","9.9.9.9"}',
    "\u202ex",
]
# Names that are not those of a user, most of which could not be.
NAMES = [
    "nobody",
    "no body",
    "",
    'x" from=9.9.9.9:1',
    "x from=9.9.9.9:1",
    "x\\",
    '\\"',
    "user=\u202ex",
    "from=9.9.9.9:1",
    '","from":"9.9.9.9:1"}',
    "2026-01-01T00:00:00Z warn event=login-failed user=a from=9.9.9.9:1",
]


# What precedes a line: nothing, the text forms of the journal (`journalctl -o short-iso`), and a
# syslog daemon's file. With `backend = systemd`, fail2ban sees the second one without its time.
PREFIXES = {
    "file": "",
    "journal": "2026-11-22T18:00:00+0100 some-host tidegate[123]: ",
    "syslog": "Nov 22 18:00:00 some-host tidegate[123]: ",
}


def fail_logins(address):
    for username in USERS + NAMES:
        with socket.create_connection(address, 10) as client:
            client.sendall(b"LOGIN\n" + username.encode() + b"\nwrong\nQUIT\n")
            while client.recv(4096):
                pass


def check_format(log_format):
    needs("fail2ban-regex")
    count = len(USERS + NAMES)
    options = ["--max-failures", "0", "--log-format", log_format]
    with Home(dict.fromkeys(USERS, "secret"), ["user:Files:read"]) as home:
        with Server(home, options, ftp=None) as server:
            fail_logins(server.address)
            server.stop()
        for name, prefix in PREFIXES.items():
            log_path = f"{server.log_path}.{name}"
            with open(log_path, "w") as log:
                log.writelines(f"{prefix}{line}\n" for line in server.log().splitlines())
            command = ["fail2ban-regex", "--print-all-matched", "-o", "<ip>", log_path, FILTER]
            output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            check(
                output.split() == ["127.0.0.1"] * count,
                f"{name}: {count} failed logins, found {output.split()} in:\n"
                f"{open(log_path).read()}",
            )
    return f"{count} failed logins found, each from 127.0.0.1, with every prefix"


if __name__ == "__main__":
    build()
    formats = ["text", "json"]
    sys.exit(run_cases({f"fail2ban-{name}": lambda f=name: check_format(f) for name in formats}))
