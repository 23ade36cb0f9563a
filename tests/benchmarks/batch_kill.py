"""Kills a batch of try-ons in the middle, again and again, and looks whether every row is done once, or has a reason.

    python -m tests.benchmarks.batch_kill [--engine ray] [--rows 60] [--bad 14] [--people 12] [--kills 3] [--seed 0]

Renders people, writes a table in which some rows cannot be tried on (a missing file, a file that is no picture, one cut
short, nobody in it, an unknown region, a garment that is not shown, an empty cell, ...), and runs `styletryon
try-on-batch`. Whenever a random number of rows is finished, the process gets SIGKILL and is started again; with Ray, it
is a worker the first time, which Ray replaces, and then the command. In the end each sound row must have its picture
and each bad one the reason that belongs to it; no row may stand twice in the records, and no picture that they had at a
kill may have been written again.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import importlib
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
from tests._support.process import ROOT, SOURCE, descendants

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


ENGINES: Mapping[str, Sequence[str]] = {
    "local": ("--threads", "1"),
    "ray": ("--engine", "ray", "--num-gpus", "0", "--num-cpus", "1"),
}
"""Engine -> the options that let each of its processes compute with one thread."""


def start(table: Path, out: Path, options: Sequence[str], log: Path) -> subprocess.Popen[bytes]:
    """Start the command; what it says goes into a file, for killed workers hold no pipe open."""
    command = [sys.executable, "-m", "styletryon", "try-on-batch", str(table), "--out", str(out), *options]
    environment = {**os.environ, "PYTHONPATH": str(SOURCE), "OMP_NUM_THREADS": "1"}
    with open(log, "wb") as stream:
        return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=stream, stderr=subprocess.STDOUT)


def read_records(out: Path) -> list[dict[str, str]]:
    """Return what the records of either engine say of rows."""
    entries = []
    journal = out / "rows.jsonl"
    for line in journal.read_text().splitlines() if journal.is_file() else []:
        with contextlib.suppress(ValueError):  # half a line of a killed process
            entries.append(json.loads(line))
    for file in [out / "outcomes.parquet", *sorted(out.glob("rows/*.parquet"))]:
        if file.is_file():
            entries += importlib.import_module("pyarrow.parquet").read_table(file).to_pylist()
    return entries


def wait_for(process: subprocess.Popen[bytes], out: Path, rows: int) -> int:
    """Wait until so many rows are finished, and say how many are.

    Raises:
        SystemExit: If the process ends before.
    """
    while (finished := len(read_records(out))) < rows:
        if process.poll() is not None:
            raise SystemExit(f"the batch ended with {finished} rows finished, before it could be killed at {rows}")
        time.sleep(0.02)
    return finished


def workers(process: subprocess.Popen[bytes]) -> list[int]:
    """The workers of Ray that a process has."""
    return [number for number, title in descendants(process.pid).items() if re.search("_Projecting|_Dressing", title)]


def kill_worker(process: subprocess.Popen[bytes]) -> None:
    """Kill a worker, as soon as there is one."""
    while process.poll() is None:
        for number in workers(process)[:1]:
            os.kill(number, signal.SIGKILL)
            return
        time.sleep(0.02)
    raise SystemExit("the batch ended before a worker could be killed")


def kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a process, and see that its workers end too: else two would do the same rows."""
    at_work = workers(process)
    process.kill()
    process.wait()
    end = time.monotonic() + 60
    while any(Path(f"/proc/{number}").exists() for number in at_work):
        if time.monotonic() > end:
            raise SystemExit("a worker is still there a minute after the command was killed")
        time.sleep(0.1)


def check(table: Table, out: Path, ended: Mapping[str, int], engine: str) -> list[str]:
    """Say what is not as it must be; `ended` are the pictures of records at kills, and when they were written."""
    faults = []
    entries = read_records(out)
    done = [entry for entry in entries if entry["status"] == "done"]
    failed = {int(entry["line"]): entry["reason"] for entry in entries if entry["status"] == "failed"}
    if any(len({entry[name] for entry in entries}) != len(entries) for name in ("key", "line")):
        faults.append("a row stands in the records twice")
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
    summary = json.loads((out / "summary.json").read_text()) if engine == "local" else None
    if summary and (len(summary["outcomes"]) != table.sound + len(table.reasons) or summary["waiting"]):
        faults.append(f"the summary tells of {len(summary['outcomes'])} rows, {summary['waiting']} waiting")
    return faults


def main(argv: Sequence[str] | None = None) -> None:
    """Print what became of the rows and how often the batch was killed.

    Raises:
        SystemExit: If anything is not as it must be.
    """
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--engine", choices=list(ENGINES), default="local")
    parser.add_argument("--workers", default="1", help="of Ray (default: %(default)s)")
    parser.add_argument("--rows", type=int, default=60)
    parser.add_argument("--bad", type=int, default=14)
    parser.add_argument("--people", type=int, default=12)
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--preset", default="fast")
    parser.add_argument("--batch-size", default="4")
    arguments = parser.parse_args(argv)
    rng = random.Random(arguments.seed)
    options = ["--preset", arguments.preset, "--batch-size", arguments.batch_size, *ENGINES[arguments.engine]]
    options += ["--workers", arguments.workers] if arguments.engine == "ray" else []
    with tempfile.TemporaryDirectory() as scratch:
        table = write_table(Path(scratch), arguments.rows, arguments.bad, arguments.people, rng)
        out, log, began = Path(scratch) / "out", Path(scratch) / "log.txt", time.perf_counter()
        faults: list[str] = []
        ended: dict[str, int] = {}
        torn = finished = 0
        # Ray writes down at once which rows are bad, and what is left at the last kill is more than a batch.
        moments = sorted(rng.sample(range(arguments.bad + 1, arguments.rows * 3 // 4), arguments.kills))
        print(f"{arguments.rows} rows, {arguments.bad} of them bad, engine {arguments.engine}")
        process = start(table.path, out, options, log)
        for count, moment in enumerate(moments):
            finished = wait_for(process, out, max(moment, finished + 1))
            if arguments.engine == "ray" and count == 0:
                kill_worker(process)
                print(f"killed a worker when {finished} rows were finished", flush=True)
                continue
            kill(process)
            entries = read_records(out)
            finished = len(entries)
            print(f"killed the command when {finished} rows were finished", flush=True)
            if len({entry["key"] for entry in entries}) < finished:
                faults.append(f"at {finished} rows one stood in the records twice")
            names = [entry["out"] for entry in entries if entry["status"] == "done"]
            ended = {name: (out / name).stat().st_mtime_ns for name in names} | ended
            torn += len(list(out.glob("*.png"))) - len(names)
            process = start(table.path, out, options, log)
        status = process.wait()
        said = log.read_text()
        if status != (1 if arguments.bad else 0):
            raise SystemExit(said)
        seconds = time.perf_counter() - began
        faults += check(table, out, ended, arguments.engine)
    print(next(line for line in said.splitlines() if " done, " in line))
    print(f"{torn} pictures were there, and not yet in the records, when the command was killed")
    print(f"{seconds:.0f} s in all, each start included")
    if faults:
        raise SystemExit("\n".join(faults))
    print("every sound row once, every bad one with its reason, no finished picture written again")


if __name__ == "__main__":
    main()
