"""The service under load: `python -m tests.benchmarks.serve [--model default] [--requests 500] [--clients 20]`.

Starts `styletryon serve` on a free port of this machine and lets clients at once post two rendered people, each a
request after the other; who is told to come back (429) waits as long as it is told, and asks again. Prints requests a
second, the median and the 95th percentile of the time to an answer, and the memory that the server holds before, in
between and after. Ends by SIGTERM while requests run, and says what became of them. Fails if an answer is wrong, or if
the memory grows by more than `--most` MB from the first tenth of the requests to the last.

The model is an untrained one of 32x24 pixels unless `--model` names another: `default` is the bundled one. With
`--without-model` the two photographs are decoded, blended and written, and nothing else: what the service itself costs.

`--ways` compares threads that share a model with processes that each load one: the processor's seconds of a try-on, and
the memory.
"""

from __future__ import annotations

import argparse
import http.client
import io
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tests._support.process import ROOT, SOURCE
from tests._support.tiny import tiny_generator
from tests.serve.conftest import form, free_port

PATIENCE = 3600.0

BLENDED = "none"
"""No model: the photographs are blended."""


def serve_blends(options: Sequence[str]) -> None:
    """Run `styletryon serve`, whose try-ons are blends."""
    from PIL import Image

    from styletryon import cli
    from styletryon.photo import save_image
    from styletryon.serve.asking import read_picture
    from styletryon.serve.service import Service

    def blend(service: Service, order: Any, step: Any) -> bytes:
        file = io.BytesIO()
        pictures = [read_picture(content, "person", service.limits.pixels)
                    for content in (order.person, order.garment)]  # fmt: skip
        save_image(Image.blend(*pictures, 0.5), file)
        return file.getvalue()

    Service._dress = blend  # type: ignore[method-assign]
    raise SystemExit(cli.main(options))


def held(process: int | str) -> float:
    """MB that a process holds, its share of what it shares."""
    lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def computed(process: int) -> float:
    """Seconds of the processor that a process has taken."""
    parts = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(parts[11]) + int(parts[12])) / os.sysconf("SC_CLK_TCK")


def photograph(seed: int, size: tuple[int, int]) -> bytes:
    """The file of a rendered person's picture."""
    from PIL import Image

    from styletryon.data import paperdoll

    file = io.BytesIO()
    Image.fromarray(paperdoll.render(paperdoll.sample_figure(seed), size).image).save(file, "jpeg", quality=90)
    return file.getvalue()


@dataclass
class Answers:
    """What came back."""

    seconds: list[float] = field(default_factory=list)
    states: Counter[int] = field(default_factory=Counter)
    memory: list[float] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)


class Server:
    """`styletryon serve` in a process of its own."""

    def __init__(self, model: str, log: Path, options: Sequence[str]) -> None:
        self.port = free_port()
        variables = {**os.environ, "PYTHONPATH": os.pathsep.join([str(SOURCE), str(ROOT)])}
        module = "tests.benchmarks.serve" if model == BLENDED else "styletryon"
        command = [sys.executable, "-m", module, "serve", "--port", str(self.port), *options]
        command += [] if model == BLENDED else ["--model", model]
        self.log = log
        with open(log, "wb") as file:
            self.process = subprocess.Popen(command, env=variables, stdout=file, stderr=file)
        until = time.monotonic() + PATIENCE
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() > until:
                raise SystemExit(f"the service does not answer: {log.read_text()}")
            time.sleep(0.2)

    def _answers(self) -> bool:
        try:
            return self.ask("GET", "/health")[0] == 200
        except OSError:
            return False

    def ask(self, method: str, path: str, body: bytes = b"", headers: Any = None) -> tuple[int, Any, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()
        finally:
            connection.close()

    @property
    def memory(self) -> float:
        return held(self.process.pid)


def post(server: Server, body: bytes, headers: dict[str, str], answers: Answers) -> None:
    """Ask until there is room."""
    began = time.perf_counter()
    while True:
        status, told, content = server.ask("POST", "/try-on", body, headers)
        answers.states[status] += 1
        if status != 429:
            break
        time.sleep(float(told["Retry-After"]))
    if status != 200 or not content.startswith(b"\x89PNG"):
        raise SystemExit(f"expected a picture, got {status}: {content[:300]!r}")
    with answers.lock:
        answers.seconds.append(time.perf_counter() - began)
        answers.memory.append(server.memory)
        if len(answers.seconds) % 100 == 0:
            print(f"{len(answers.seconds)} answered, {answers.memory[-1]:.0f} MB", flush=True)


def load(server: Server, requests: int, clients: int, size: tuple[int, int], region: str) -> Answers:
    """Post requests from several clients at once."""
    answers = Answers()
    people = [photograph(seed, size) for seed in range(20_000_000, 20_000_008)]

    def one(number: int) -> None:
        person, garment = people[number % 8], people[(number // 8 + number + 1) % 8]
        fields: dict[str, str | bytes] = {"person": person, "garment": garment, "region": region, "preset": "fast"}
        body, headers = form(fields)
        post(server, body, headers, answers)

    with ThreadPoolExecutor(clients) as pool:
        list(pool.map(one, range(requests)))
    return answers


def end(server: Server, size: tuple[int, int], region: str) -> Counter[str]:
    """Send SIGTERM while three requests are there; return what became of each."""
    body, headers = form({"person": photograph(1, size), "garment": photograph(2, size), "region": region,
                          "preset": "fast"})  # fmt: skip
    with ThreadPoolExecutor(4) as pool:
        last = [pool.submit(server.ask, "POST", "/try-on", body, headers) for _ in range(4)]
        while not any(one.done() for one in last) and json.loads(server.ask("GET", "/health")[2])["waiting"] < 1:
            time.sleep(0.01)
        server.process.send_signal(signal.SIGTERM)
        ended = Counter(str(one.result()[0]) for one in last)
    ended[f"exit status {server.process.wait(PATIENCE)}"] += 1
    return ended


def measure(arguments: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = BLENDED if arguments.without_model else arguments.model
        if model is None:
            tiny_generator().save_pretrained(folder / "tiny")
            model = str(folder / "tiny")
        server = Server(model, folder / "log", ["--workers", str(arguments.workers), "--queue", str(arguments.queue)])
        try:
            before = server.memory
            warm = load(server, arguments.workers, arguments.workers, arguments.size, arguments.region)
            began, spent = time.perf_counter(), computed(server.process.pid)
            print(f"memory: {before:.0f} MB as it starts, {warm.memory[-1]:.0f} MB after {arguments.workers} requests",
                  flush=True)  # fmt: skip
            answers = load(server, arguments.requests, arguments.clients, arguments.size, arguments.region)
            seconds, spent = time.perf_counter() - began, computed(server.process.pid) - spent
            p50, p95 = np.percentile(answers.seconds, [50, 95])
            tenth = max(1, arguments.requests // 10)
            early, late = max(answers.memory[:tenth]), max(answers.memory[-tenth:])
            number = arguments.requests
            print(f"{number} requests of {arguments.clients} clients, {arguments.workers} workers: "
                  f"{number / seconds:.2f} a second; {spent / number:.2f} s of the processor each; "
                  f"to an answer {p50:.1f} s (median), {p95:.1f} s (95 %); load {os.getloadavg()[0]:.1f}")  # fmt: skip
            print(f"answers: {dict(answers.states)}")
            print(f"memory: at most {early:.0f} MB in the first {tenth} requests, {late:.0f} MB in the last, "
                  f"{max(answers.memory):.0f} MB in all, {server.memory:.0f} MB after", flush=True)  # fmt: skip
            print(f"SIGTERM among four requests: {dict(end(server, arguments.size, arguments.region))}")
            if late - early > arguments.most:
                raise SystemExit(f"the memory grew by {late - early:.0f} MB")
        finally:
            server.process.kill()
            server.process.wait()


def dress(times: int, model: Any, size: tuple[int, int], region: str) -> None:
    import styletryon

    for _ in range(times):
        styletryon.try_on(photograph(1, size), photograph(2, size), region=region, preset="fast", model=model)


def apart(times: int, model: str, size: tuple[int, int], region: str, told: Any, go: Any) -> None:
    """What each of several processes does."""
    import torch

    import styletryon

    torch.set_num_threads(1)
    loaded = styletryon.load_model(model)
    dress(1, loaded, size, region)
    told.put(0.0)
    go.wait()
    began = time.process_time()
    dress(times, loaded, size, region)
    told.put((time.process_time() - began, held("self")))


def compare(arguments: argparse.Namespace) -> None:
    import torch

    import styletryon

    torch.set_num_threads(1)
    model, times, count = arguments.model or "default", arguments.requests, arguments.workers
    loaded = styletryon.load_model(model)
    dress(1, loaded, arguments.size, arguments.region)
    print(f"load {os.getloadavg()[0]:.1f}; {times} try-ons each")
    for number in (1, count):
        began, spent = time.perf_counter(), time.process_time()
        threads = [threading.Thread(target=dress, args=(times, loaded, arguments.size, arguments.region))
                   for _ in range(number)]  # fmt: skip
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        made = number * times
        seconds, spent = time.perf_counter() - began, time.process_time() - spent
        print(f"{number} threads: {seconds / made:.2f} s a try-on, {spent / made:.2f} s of the processor, "
              f"{held('self'):.0f} MB", flush=True)  # fmt: skip
    context = multiprocessing.get_context("spawn")
    told, go = context.Queue(), context.Event()
    processes = [context.Process(target=apart, args=(times, model, arguments.size, arguments.region, told, go))
                 for _ in range(count)]  # fmt: skip
    for process in processes:
        process.start()
    for _ in processes:
        told.get()
    began = time.perf_counter()
    go.set()
    ended = [told.get() for _ in processes]
    seconds = time.perf_counter() - began
    print(f"{count} processes: {seconds / count / times:.2f} s a try-on, "
          f"{sum(spent for spent, _ in ended) / count / times:.2f} s of the processor, "
          f"{sum(memory for _, memory in ended):.0f} MB")  # fmt: skip
    for process in processes:
        process.join()


def main(argv: Sequence[str] | None = None) -> None:
    """Print what the service does under load."""
    given = sys.argv[1:] if argv is None else list(argv)
    if given[:1] == ["serve"]:
        serve_blends(given)
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--model", help="name or folder (default: an untrained one of 32x24 pixels)")
    parser.add_argument("--without-model", action="store_true", help="blend the photographs instead")
    parser.add_argument("--requests", type=int, default=500)
    parser.add_argument("--clients", type=int, default=20)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--queue", type=int, default=16)
    parser.add_argument("--size", type=int, nargs=2, default=(256, 192), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--region", default="full")
    parser.add_argument("--most", type=float, default=100, help="MB that the memory may grow by")
    parser.add_argument("--ways", action="store_true", help="compare threads with processes")
    arguments = parser.parse_args(given)
    arguments.size = tuple(arguments.size)
    (compare if arguments.ways else measure)(arguments)


if __name__ == "__main__":
    main()
