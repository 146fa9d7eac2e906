"""A pytest plugin that runs pyftpdlib's functional tests against tidegate.

Each of these tests starts a pyftpdlib server in a thread, which serves the working directory as
its root. The plugin replaces that server by a tidegate process, which serves the same directory as
/Home. The client changes to /Home after its login; absolute paths in commands get the prefix /Home,
and those in replies lose it.

The plugin compares reply codes, not texts: a test that compares a reply with one of pyftpdlib's
compares the three digits of both. A test that searches for a phrase of pyftpdlib's accepts any
text; ftplib has checked the class of the reply (4xx or 5xx).
"""

import ast
import ftplib
import os
import re
import sys
import types

import pytest

from peer_server import PeerServer

REASONS = os.path.join(os.path.dirname(__file__), "reasons.txt")
PATH_COMMAND = re.compile(r"^([A-Za-z]+ (?:-[A-Za-z]+ )?)/")
PATH_REPLY = re.compile(r'(?<=[ "])/Home(?:/|(?=["\r\n]|$))')
REPLY = re.compile(r"\d{3}[ -]")


class ServerThread(PeerServer):
    """Has the interface of the thread that runs pyftpdlib's server."""

    def __init__(self, addr=None):
        super().__init__(os.getcwd(), addr[0] if addr else "127.0.0.1")
        handler = sys.modules["pyftpdlib.handlers"].FTPHandler
        self.handler = types.SimpleNamespace(proto_cmds=handler.proto_cmds)

    def start(self):
        """Does nothing: the process is already running."""


class Client(ftplib.FTP):
    """ftplib's client with /Home as the root."""

    def login(self, *arguments, **named):
        reply = super().login(*arguments, **named)
        super().cwd("Home")
        return reply

    def putcmd(self, line):
        super().putcmd(PATH_COMMAND.sub(r"\1/Home/", line))

    def getline(self):
        return PATH_REPLY.sub("/", super().getline())


class Codes(ast.NodeTransformer):
    """Replaces `a == b` by `equal(a, b)`, and `a in b` by `within(a, b)`."""

    def visit_Compare(self, node):
        self.generic_visit(node)
        name = {ast.Eq: "equal", ast.In: "within"}.get(type(node.ops[0]))
        if len(node.ops) != 1 or name is None:
            return node
        called = ast.Name(name, ast.Load())
        return ast.copy_location(ast.Call(called, [node.left, *node.comparators], []), node)


def equal(left, right):
    if isinstance(left, str) and isinstance(right, str) and REPLY.match(right):
        return left[:3] == right[:3]
    return left == right


def within(part, whole):
    is_phrase = isinstance(part, str) and " " in part
    is_reply = isinstance(whole, str) and REPLY.match(whole)
    return True if is_phrase and is_reply else part in whole


def raises(*arguments, match=None, of=pytest.raises, **named):
    code = re.match(r"\d{3}", match or "")
    return of(*arguments, match=code and code[0], **named)


def pytest_configure(config):
    if not any("test_functional.py" in argument for argument in config.args):
        return
    import tests

    tests.FtpdThreadWrapper = ServerThread
    pytest.raises = raises
    path = os.path.join(os.path.dirname(tests.__file__), "test_functional.py")
    with open(path) as file:
        tree = ast.fix_missing_locations(Codes().visit(ast.parse(file.read())))
    module = types.ModuleType("tests.test_functional")
    module.__file__, module.__package__ = path, "tests"
    module.equal, module.within = equal, within
    sys.modules[module.__name__] = tests.test_functional = module
    exec(compile(tree, path, "exec"), module.__dict__)
    for each in vars(module).values():
        if getattr(each, "client_class", None) is ftplib.FTP:
            each.client_class = Client


def pytest_collection_modifyitems(items):
    """Marks the tests of reasons.txt, whose lines are `CLASS[.TEST] KIND: REASON`."""
    reasons = {}
    with open(REASONS) as file:
        for line in file:
            if line.strip() and not line.startswith("#"):
                pattern = r"(\S+) (not applicable|differs): (.+)\n"
                name, kind, reason = re.fullmatch(pattern, line).groups()
                reasons[name] = (kind, reason)
    for item in items:
        owner = item.cls.__name__
        kind, reason = reasons.get(f"{owner}.{item.name}") or reasons.get(owner) or (None, None)
        if kind == "not applicable":
            item.add_marker(pytest.mark.skip(reason=reason))
        elif kind == "differs":
            item.add_marker(pytest.mark.xfail(reason=reason, strict=True))
