"""A pytest plugin that points pyftpdlib's functional tests at tidegate, and knows what is not asked and what differs.

Their tests start a server of pyftpdlib's in a thread, with the working directory as the root of what it serves. Here each
starts a tidegate, whose `/` holds the directory Home for that root; so the client is sent there after its login, absolute
paths of commands begin with /Home, and those in replies lose it.

Codes are compared, not texts: where a test compares a reply with one of pyftpdlib's, three digits of each are compared;
where it looks for one of pyftpdlib's phrases and names no code, the class that ftplib tells (4xx or 5xx) is.
"""

import ast
import ftplib
import os
import re
import sys
import types

import pytest

import server

REASONS = os.path.join(os.path.dirname(__file__), "reasons.txt")
PATH_COMMAND = re.compile(r"^([A-Za-z]+ (?:-[A-Za-z]+ )?)/")
PATH_REPLY = re.compile(r'(?<=[ "])/Home(?:/|(?=["\r\n]|$))')
REPLY = re.compile(r"\d{3}[ -]")


class Thread(server.Server):
    """What the tests take for the thread that runs their server."""

    def __init__(self, addr=None):
        super().__init__(os.getcwd(), addr[0] if addr else "127.0.0.1")
        self.handler = types.SimpleNamespace(proto_cmds=sys.modules["pyftpdlib.handlers"].FTPHandler.proto_cmds)

    def start(self):
        """It runs already."""


class Client(ftplib.FTP):
    """ftplib's client with /Home for the tests' root."""

    def login(self, *arguments, **named):
        reply = super().login(*arguments, **named)
        super().cwd("Home")
        return reply

    def putcmd(self, line):
        super().putcmd(PATH_COMMAND.sub(r"\1/Home/", line))

    def getline(self):
        return PATH_REPLY.sub("/", super().getline())


class Codes(ast.NodeTransformer):
    """Turns `a == b` and `a in b` into `equal(a, b)` and `within(a, b)`."""

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
    is_phrase = isinstance(part, str) and " " in part and isinstance(whole, str) and REPLY.match(whole)
    return True if is_phrase else part in whole


def raises(*arguments, match=None, of=pytest.raises, **named):
    code = re.match(r"\d{3}", match or "")
    return of(*arguments, match=code and code[0], **named)


def pytest_configure(config):
    if not any("test_functional.py" in argument for argument in config.args):
        return
    import tests

    tests.FtpdThreadWrapper = Thread
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
    """`CLASS[.TEST] KIND: REASON`, KIND being `not asked` or `differs`."""
    reasons = {}
    with open(REASONS) as file:
        for line in file:
            if line.strip() and not line.startswith("#"):
                name, kind, reason = re.fullmatch(r"(\S+) (not asked|differs): (.+)\n", line).groups()
                reasons[name] = (kind, reason)
    for item in items:
        owner = item.cls.__name__
        kind, reason = reasons.get(f"{owner}.{item.name}") or reasons.get(owner) or (None, None)
        if kind == "not asked":
            item.add_marker(pytest.mark.skip(reason=reason))
        elif kind == "differs":
            item.add_marker(pytest.mark.xfail(reason=reason, strict=True))
