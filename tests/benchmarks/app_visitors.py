"""Ten visitors at once: `python -m tests.benchmarks.app_visitors [--rounds 3] [--wait 100]`.

Starts `styletryon app`. In each round ten visitors come, each uploads pictures that nobody has uploaded before, asks
for two try-ons, and goes. Prints the memory that the server holds before anybody came, after one visitor, while the ten
are there, and when they have been gone for `--wait` seconds. Fails if a try-on is not answered.
"""

from __future__ import annotations

import argparse
import io
import resource
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from PIL import Image

from styletryon.data import paperdoll
from tests.app.test_server import Visitor
from tests.benchmarks.app_browser import free_port, start

VISITORS = 10
SIZE = (1024, 768)
FIRST = 30_000_000


def memory(process: int) -> float:
    """MB that a process holds."""
    return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * resource.getpagesize() / 2**20


def picture(seed: int) -> bytes:
    """The file of a rendered person's picture."""
    file = io.BytesIO()
    Image.fromarray(paperdoll.render(paperdoll.sample_figure(seed), SIZE).image).save(file, "png")
    return file.getvalue()


def visit(port: int, pictures: Sequence[bytes]) -> Visitor:
    """Dress one person in two garments; return the visitor, who stays."""
    visitor = Visitor(port)
    person, *garments = pictures
    key = visitor.upload("person", person)
    for garment in garments:
        visitor.dress("full", key, visitor.upload("garment", garment))
        visitor.ask("GET", "/result.png")
    return visitor


def main(argv: Sequence[str] | None = None) -> None:
    """Print megabytes."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--wait", type=float, default=100)
    arguments = parser.parse_args(argv)
    port = free_port()
    seeds = iter(range(FIRST, FIRST + 1000))
    with tempfile.TemporaryDirectory() as name, ThreadPoolExecutor(VISITORS) as pool:
        folder = Path(name)
        server, _ = start(port, folder / "server.log")
        try:
            print(f"nobody has come yet: {memory(server.pid):.0f} MB")
            visit(port, [picture(next(seeds)) for _ in range(3)]).leave()
            time.sleep(arguments.wait)
            print(f"one has come and gone: {memory(server.pid):.0f} MB")
            for number in range(arguments.rounds):
                asked = [[picture(next(seeds)) for _ in range(3)] for _ in range(VISITORS)]
                began = time.perf_counter()
                visitors = list(pool.map(lambda pictures: visit(port, pictures), asked))
                seconds, full = time.perf_counter() - began, memory(server.pid)
                for client in visitors:
                    client.leave()
                time.sleep(arguments.wait)
                print(
                    f"round {number + 1}: {2 * VISITORS} try-ons in {seconds:.0f} s; {full:.0f} MB, and when all have "
                    f"gone {memory(server.pid):.0f} MB",
                    flush=True,
                )
        finally:
            server.terminate()
            server.wait(timeout=60)


if __name__ == "__main__":
    main()
