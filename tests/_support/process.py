"""Run Python in a fresh interpreter that sees this tree's sources."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src"


def run_python(
    *arguments: str | os.PathLike[str],
    folder: Path | None = None,
    timeout: float = 900.0,
    environment: dict[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run `python ARGUMENTS...` and return what it printed and how it ended.

    Args:
        arguments: What follows `python` on the command line.
        folder: The working folder. Default: the root of the repository.
        timeout: Seconds after which the interpreter is killed and the test fails.
        environment: Variables to set beside the present ones.
    """
    variables = {**os.environ, "PYTHONPATH": str(SOURCE), "OMP_NUM_THREADS": "1", **(environment or {})}
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=folder or ROOT,
        env=variables,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
