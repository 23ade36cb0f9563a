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


def descendants(of: int) -> dict[int, str]:
    """The processes that a process started, they themselves too, as Linux tells them: number -> command line."""
    parents, commands = {}, {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                number = int(entry.name)
                parents[number] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                commands[number] = (entry / "cmdline").read_text().replace("\0", " ").strip()
            except OSError:
                continue  # it has ended

    def is_below(number: int) -> bool:
        while number > 1:
            number = parents.get(number, 0)
            if number == of:
                return True
        return False

    return {number: command for number, command in commands.items() if is_below(number)}
