"""`styletryon app`, killed in the middle of a try-on and started again."""

from __future__ import annotations

import http.client
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests._support.process import SOURCE
from tests._support.tiny import tiny_generator
from tests.app.test_server import PATIENCE, Visitor, free_port

pytestmark = [pytest.mark.skipif(os.name == "nt", reason="kills by signal"), pytest.mark.slow]


class Command:
    """`styletryon app` in a process and a folder for temporary files of its own."""

    def __init__(self, model: Path, port: int, temporary: Path) -> None:
        variables = {**os.environ, "PYTHONPATH": str(SOURCE), "OMP_NUM_THREADS": "1", "TMPDIR": str(temporary)}
        command = [sys.executable, "-m", "styletryon", "app", "--model", str(model), "--port", str(port)]
        self.port = port
        # Jobs in the background ignore it, and so would their children.
        if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        self.process = subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def __enter__(self) -> Visitor:
        """Wait until it answers; return a visitor."""
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until and self.process.poll() is None:
            try:
                visitor = Visitor(self.port)
                visitor.ask("GET", "/room")
                return visitor
            except OSError:
                time.sleep(0.05)
        self.process.kill()
        raise AssertionError(f"it does not answer: {self.process.communicate()[0].decode()}")

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()


def test_killed_in_the_middle_it_starts_again_and_leaves_nothing_behind(tmp_path: Path) -> None:
    pytest.importorskip("fastapi", reason='the extra is not installed: pip install "styletryon[app]"')
    model, temporary, port = tmp_path / "model", tmp_path / "tmp", free_port()
    temporary.mkdir()
    tiny_generator().save_pretrained(model)

    with (command := Command(model, port, temporary)) as visitor:
        visitor.dress("full")
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        asked = {"person": 2, "garment": 3, "region": "full", "preset": "quality"}
        headers = {"X-Visit": secrets.token_hex(24), "Content-Type": "application/json"}
        connection.request("POST", "/try-on", json.dumps(asked), headers)
        assert "share" in json.loads(connection.getresponse().readline()), "it is in the middle"
        command.process.send_signal(signal.SIGKILL)
        assert command.process.wait(PATIENCE) == -signal.SIGKILL
        connection.close()
    assert list(temporary.rglob("*")) == [], "nothing was written"

    for ending, status in ((signal.SIGINT, 130), (signal.SIGTERM, 0)):
        with (command := Command(model, port, temporary)) as visitor:
            assert visitor.dress("full")["status"]
            command.process.send_signal(ending)
            assert command.process.wait(PATIENCE) == status
    assert list(temporary.rglob("*")) == []
