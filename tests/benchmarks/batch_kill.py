"""Kills a batch of try-ons again and again, and looks whether every row is done once, or has a reason.

    python -m tests.benchmarks.batch_kill [--rows 200] [--bad 20] [--people 30] [--kills 4] [--seed 0]

Renders people, writes a table in which some rows cannot be tried on (a missing file, a file that is no picture, one cut
short, nobody in it, an unknown region, a garment that is not shown, an empty cell, ...), and runs `styletryon
try-on-batch`. At random moments the process gets SIGKILL and is started again. In the end each sound row must have its
picture and each bad one the reason that belongs to it; no row may stand twice in the journal, and no picture that the
journal had at a kill may have been written again.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from styletryon.data import paperdoll
from tests._support.process import ROOT, SOURCE

COLUMNS = ("person", "garment", "region", "out", "person_pose", "garment_pose")
SIZE = (256, 192)
FIRST_FIGURE = 1_000_000_000
"""Figures from here on are in no training data."""

BAD: Mapping[str, tuple[Mapping[str, str], str]] = {
    "missing file": ({"person": "nowhere.png"}, "nowhere.png: No such file"),
    "not a picture": ({"garment": "text.png"}, "text.png: .* is not a picture"),
    "nobody in it": ({"person": "nobody.png"}, "nobody.png: expected a photograph that shows a person"),
    "unknown region": ({"region": "hat"}, "region: expected .*hat"),
    "garment not shown": ({"region": "other"}, "region: the garment picture shows no other"),
    "truncated file": ({"garment": "truncated.jpg"}, "truncated.jpg: .* is damaged or incomplete"),
    "empty cell": ({"person": ""}, "person: expected a value"),
    "name outside the folder": ({"out": "../escape.png"}, "out: expected a name inside the output folder"),
    "missing pose": ({"person_pose": "nowhere.json"}, "nowhere.json: No such file"),
    "pose of another kind": ({"garment_pose": "text.json"}, "text.json: expected .* numbers in COCO order"),
    "too small": ({"person": "tiny.png"}, "tiny.png: expected at least 16 pixels"),
    "too thin": ({"garment": "thin.png"}, "thin.png: expected sides of at most 8 to 1"),
    "a folder": ({"garment": "folder.png"}, "folder.png: Is a directory"),
    "picture of another row": ({"out": "0000.png"}, "out: expected a name of its own"),
}
"""What is wrong with a row -> the cells that make it so, and what its reason must say."""


@dataclass(frozen=True)
class Table:
    """A table and what must come of it.

    Attributes:
        path: The CSV file.
        reasons: Line of each bad row -> what is wrong with it, a name of `BAD`.
        sound: How many rows can be tried on.
    """

    path: Path
    reasons: Mapping[int, str]
    sound: int


def write_table(folder: Path, rows: int, bad: int, people: int, rng: random.Random) -> Table:
    """Render people and write a table of `rows` rows, `bad` of which cannot be tried on."""
    figures = (paperdoll.sample_figure(FIRST_FIGURE + number) for number in range(100 * people))
    dressed = [figure for figure in figures if paperdoll.wears(figure, "top") and not paperdoll.wears(figure, "dress")]
    for number, figure in enumerate(dressed[:people]):
        Image.fromarray(paperdoll.render(figure, SIZE).image).save(folder / f"{number:02d}.jpg", quality=95)
    _write_bad_files(folder)
    pairs = [(person, garment) for person in range(people) for garment in range(people) if person != garment]
    chosen = rng.sample(pairs, rows)
    kinds = list(BAD)
    wrong = {row: kinds[count % len(kinds)] for count, row in enumerate(sorted(rng.sample(range(1, rows), bad)))}
    with open(folder / "table.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        for row, (person, garment) in enumerate(chosen):
            cells = {"person": f"{person:02d}.jpg", "garment": f"{garment:02d}.jpg", "region": "full"}
            cells["out"] = f"{row:04d}.png"
            writer.writerow({**cells, **(BAD[wrong[row]][0] if row in wrong else {})})
    return Table(folder / "table.csv", {row + 2: kind for row, kind in wrong.items()}, rows - bad)


def _write_bad_files(folder: Path) -> None:
    (folder / "text.png").write_text("no picture")
    (folder / "text.json").write_text('{"no": "pose"}')
    (folder / "folder.png").mkdir()
    whole = (folder / "00.jpg").read_bytes()
    (folder / "truncated.jpg").write_bytes(whole[: len(whole) // 3])
    for name, (height, width) in {"nobody": (256, 192), "tiny": (15, 12), "thin": (900, 100)}.items():
        Image.fromarray(np.full((height, width, 3), 150, np.uint8)).save(folder / f"{name}.png")


def start(table: Path, out: Path, options: Sequence[str]) -> subprocess.Popen[str]:
    """Start the command on one thread."""
    command = [sys.executable, "-m", "styletryon", "try-on-batch", str(table), "--out", str(out), "--threads", "1"]
    environment = {**os.environ, "PYTHONPATH": str(SOURCE), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([*command, *options], cwd=ROOT, env=environment, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT)  # fmt: skip


def read_journal(out: Path) -> list[dict[str, str]]:
    """Return the whole lines of the journal."""
    file = out / "rows" / "00000.jsonl"
    entries = []
    for line in file.read_text().splitlines() if file.is_file() else []:
        try:
            entries.append(json.loads(line))
        except ValueError:  # half a line of a killed process
            continue
    return entries


def run_until(process: subprocess.Popen[str], out: Path, lines: int, delay: float) -> bool:
    """Kill a process some time after its journal has so many lines; return whether it still ran."""
    while process.poll() is None and len(read_journal(out)) < lines:
        time.sleep(0.02)
    time.sleep(delay)
    running = process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.communicate()
    return running


def check(table: Table, out: Path, ended: Mapping[str, int]) -> list[str]:
    """Say what is not as it must be; `ended` are the pictures of journals at kills, and when they were written."""
    faults = []
    entries = read_journal(out)
    done = [entry for entry in entries if entry["status"] == "done"]
    failed = {int(entry["line"]): entry["reason"] for entry in entries if entry["status"] == "failed"}
    if any(len({entry[name] for entry in entries}) != len(entries) for name in ("key", "line")):
        faults.append("a row stands in the journal twice")
    if len(done) != table.sound or len(list(out.glob("*.png"))) != table.sound:
        faults.append(f"{len(done)} rows done and {len(list(out.glob('*.png')))} pictures, expected {table.sound}")
    if set(failed) != set(table.reasons):
        faults.append(f"failed lines {sorted(failed)}, expected {sorted(table.reasons)}: {failed}")
    for line, kind in table.reasons.items():
        if not re.search(BAD[kind][1], failed.get(line, "")):
            faults.append(f"line {line}, {kind}: {failed.get(line)!r}")
    again = [name for name, when in ended.items() if (out / name).stat().st_mtime_ns != when]
    if again:
        faults.append(f"written again though they were done: {again}")
    for entry in done:
        with Image.open(out / entry["out"]) as picture:
            if picture.size != SIZE[::-1]:
                faults.append(f"{entry['out']} is {picture.size}")
    summary = json.loads((out / "summary.json").read_text())
    if len(summary["outcomes"]) != table.sound + len(table.reasons) or summary["waiting"]:
        faults.append(f"the summary tells of {len(summary['outcomes'])} rows, {summary['waiting']} waiting")
    return faults


def main(argv: Sequence[str] | None = None) -> None:
    """Print what became of the rows and how often the batch was killed.

    Raises:
        SystemExit: If anything is not as it must be.
    """
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--rows", type=int, default=200)
    parser.add_argument("--bad", type=int, default=20)
    parser.add_argument("--people", type=int, default=30)
    parser.add_argument("--kills", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--preset", default="fast")
    parser.add_argument("--batch-size", default="8")
    arguments = parser.parse_args(argv)
    rng = random.Random(arguments.seed)
    options = ["--preset", arguments.preset, "--batch-size", arguments.batch_size]
    with tempfile.TemporaryDirectory() as scratch:
        table = write_table(Path(scratch), arguments.rows, arguments.bad, arguments.people, rng)
        out, began = Path(scratch) / "out", time.perf_counter()
        moments, ended, torn = [], {}, 0
        for lines in sorted(rng.sample(range(arguments.rows * 9 // 10), arguments.kills)):
            if not run_until(start(table.path, out, options), out, lines, rng.uniform(0, 2)):
                raise SystemExit("the batch ended before it could be killed")
            entries = read_journal(out)
            moments.append(len(entries))
            names = [entry["out"] for entry in entries if entry["status"] == "done"]
            ended = {name: (out / name).stat().st_mtime_ns for name in names} | ended
            torn += len(list(out.glob("*.png"))) - len(names)
        process = start(table.path, out, options)
        printed, _ = process.communicate()
        if process.returncode != (1 if arguments.bad else 0):
            raise SystemExit(printed)
        seconds = time.perf_counter() - began
        faults = check(table, out, ended)
    print(printed.split("\n")[0])
    print(f"killed when {moments} of {arguments.rows} rows were finished; {torn} pictures not yet in the journal then")
    print(f"{seconds:.0f} s in all, {arguments.kills + 1} starts included")
    if faults:
        raise SystemExit("\n".join(faults))
    print("every sound row once, every bad one with its reason, no finished picture written again")


if __name__ == "__main__":
    main()
