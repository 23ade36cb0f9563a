"""`styletryon app`, killed in the middle of a try-on and started again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests._support.process import SOURCE
from tests._support.tiny import tiny_generator
from tests.app.test_server import dress, free_port

pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
    pytest.mark.skipif(os.name == "nt", reason="kills by signal"),
    pytest.mark.slow,
]

PATIENCE = 900.0
"""Seconds that a busy machine may take: nothing here is about time."""


class Command:
    """`styletryon app` in a process and a folder for temporary files of its own."""

    def __init__(self, model: Path, port: int, temporary: Path) -> None:
        variables = {**os.environ, "PYTHONPATH": str(SOURCE), "OMP_NUM_THREADS": "1", "TMPDIR": str(temporary)}
        command = [sys.executable, "-m", "styletryon", "app", "--model", str(model), "--port", str(port)]
        self.url = f"http://127.0.0.1:{port}/"
        self.process = subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def __enter__(self) -> Any:
        """Wait until it answers; return a visitor."""
        from gradio_client import Client

        until = time.monotonic() + PATIENCE
        while time.monotonic() < until and self.process.poll() is None:
            try:
                urllib.request.urlopen(self.url, timeout=PATIENCE).close()
                return Client(self.url, verbose=False, analytics_enabled=False)
            except OSError:
                time.sleep(0.05)
        self.process.kill()
        raise AssertionError(f"it does not answer: {self.process.communicate()[0].decode()}")

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()


def files(folder: Path) -> set[Path]:
    return {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}


def test_killed_in_the_middle_it_starts_again_clean(tmp_path: Path) -> None:
    pytest.importorskip("gradio", reason='the extra is not installed: pip install "styletryon[app]"')
    model, temporary, port = tmp_path / "model", tmp_path / "tmp", free_port()
    temporary.mkdir()
    tiny_generator().save_pretrained(model)

    with (command := Command(model, port, temporary)) as visitor:
        fresh = files(temporary)
        dress(visitor, "full")
        work = visitor.submit("full", "quality", False, api_name="/try_on")
        until = time.monotonic() + PATIENCE
        while not work.status().progress_data and time.monotonic() < until:
            time.sleep(0.005)
        assert not work.done(), "it is in the middle"
        command.process.send_signal(signal.SIGKILL)
        assert command.process.wait(PATIENCE) == -signal.SIGKILL
    left = files(temporary)
    assert left > fresh, "what was killed could not clear up"

    for ending in (signal.SIGINT, signal.SIGTERM):
        with (command := Command(model, port, temporary)) as visitor:
            assert files(temporary) == fresh
            assert dress(visitor, "full")[0].size == (384, 512)
            command.process.send_signal(ending)
            command.process.wait(PATIENCE)
        assert files(temporary) == set()
        assert not list(temporary.glob("styletryon*"))
