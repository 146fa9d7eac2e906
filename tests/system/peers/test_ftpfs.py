"""PyFilesystem2's tests of a file system, run over its FTPFS and tidegate."""

import tempfile
import unittest

from fs.ftpfs import FTPFS
from fs.test import FSTestCases

from peer_server import PeerServer


class TestFtpfs(FSTestCases, unittest.TestCase):
    def make_fs(self):
        self.folder = tempfile.TemporaryDirectory()
        self.server = PeerServer(self.folder.name)
        self.base = FTPFS(
            "127.0.0.1", user="user", passwd="12345", port=self.server.port, timeout=5
        )
        return self.base.opendir("Home")

    def destroy_fs(self, fs):
        self.base.close()
        self.server.stop()
        self.folder.cleanup()
