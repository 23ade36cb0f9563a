"""Uses the fitting room as a visitor would, in a real browser: `python -m tests.benchmarks.app_browser OUT`.

Starts `styletryon app`, opens it in Chromium (`--chromium`; `pip install playwright`), chooses, tries on, drags
coefficients as drawn and in the photograph, looks at all that there is to look at, draws other poses, uploads a file
that is no picture and a garment by itself, and downloads. Fails if any request leaves this machine. Writes screenshots
of a desktop and of a phone, and prints how long each step took.
OUT/app.png is what docs/images/app.png shows.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from PIL import Image

from styletryon.data import paperdoll
from tests._support.process import ROOT, SOURCE

WIDTHS = {"desktop": (1440, 1000), "phone": (390, 844)}
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync"]  # fmt: skip


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start(port: int, log: Path) -> tuple[subprocess.Popen[bytes], float]:
    """Start the server; return it and the seconds until its page was answered."""
    variables = {**os.environ, "PYTHONPATH": os.pathsep.join([str(SOURCE), str(ROOT)])}
    began = time.perf_counter()
    with open(log, "wb") as file:
        server = subprocess.Popen(
            [sys.executable, "-m", "styletryon", "app", "--port", str(port)], env=variables, stdout=file, stderr=file
        )
    while time.perf_counter() - began < 180:
        if server.poll() is not None:
            raise SystemExit(f"the server ended: {log.read_text()}")
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10).read()
            return server, time.perf_counter() - began
        except OSError:
            time.sleep(0.1)
    raise SystemExit("the server did not answer")


class Visitor:
    """A browser tab, and what it asked for."""

    def __init__(self, browser: Any, url: str, size: tuple[int, int], server: int) -> None:
        self.server = server
        self.left: list[str] = []
        self.faults: list[str] = []
        context = browser.new_context(viewport={"width": size[0], "height": size[1]}, accept_downloads=True)
        self.page = context.new_page()
        self.page.on("request", lambda request: self._look(request.url))
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.goto(url)
        self.page.wait_for_selector("#try-on", timeout=120_000)
        self.page.wait_for_selector("#garment-wardrobe img", timeout=120_000)
        shown = "[...document.querySelectorAll('.picker img')].every(image => image.complete && image.naturalWidth)"
        while not self.page.evaluate(shown):  # the page's policy lets nothing be evaluated inside it
            self.page.wait_for_timeout(50)

    def _look(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("data", "blob") and parts.hostname not in ("127.0.0.1", "localhost"):
            self.left.append(url)

    def source(self, selector: str, index: int = -1) -> str:
        """The address of a picture on the page; changes when the picture does."""
        pictures = self.page.query_selector_all(f"{selector} img")
        return str(pictures[index].get_attribute("src")) if pictures else ""

    def until(self, selector: str, before: str, seconds: float = 300, index: int = -1) -> float:
        """Wait until a picture is another; return the seconds that it took."""
        began = time.perf_counter()
        while time.perf_counter() - began < seconds:
            now = self.source(selector, index)
            if now and now != before:
                return time.perf_counter() - began
            self.page.wait_for_timeout(10)
        raise SystemExit(f"{selector}: no new picture within {seconds} s")

    def processor(self) -> float:
        """Seconds that the server's threads have worked, which other programs on the machine do not change much."""
        times = Path(f"/proc/{self.server}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(times[11]) + int(times[12])) / os.sysconf("SC_CLK_TCK")

    def shot(self, path: Path) -> None:
        self.page.screenshot(path=path, full_page=True)

    def wide(self) -> int:
        """By how many pixels the page is wider than the window."""
        return int(self.page.evaluate("document.documentElement.scrollWidth - window.innerWidth"))


def go_through(visitor: Visitor, out: Path) -> dict[str, float]:
    """Do what a visitor does; return the seconds of each step."""
    page, seconds = visitor.page, {}
    before = visitor.source("#garment-picture")
    page.click("#garment-wardrobe button >> nth=7")
    seconds["choose"] = visitor.until("#garment-picture", before)
    page.check("#preset input[value=fast]")
    before = visitor.source("#result")
    page.click("#try-on")
    seconds["try on (fast)"] = visitor.until("#result", before)
    page.wait_for_selector("#poses img", timeout=120_000)
    page.wait_for_timeout(1500)
    visitor.shot(out / "tried-on.png")

    seconds["as drawn"] = look_at(visitor, "drawn")
    drags = [("drawn", index, f"drag {index} as drawn") for index in (1, 2, 3)]
    drags += [("photograph", index, f"drag {index - 3} in the photograph") for index in (4, 5)]
    for look, index, name in drags:
        if not page.is_checked(f"#look input[value={look}]"):
            seconds["in the photograph"] = look_at(visitor, look)
        worked = visitor.processor()
        seconds[name] = drag(visitor, index)
        seconds[f"{name}, the server's processor"] = visitor.processor() - worked
        page.wait_for_timeout(1500)
        visitor.shot(out / f"changed-{look}.png")
        told = page.inner_text("#status")
        if "Changed by hand" not in told or ("as drawn" in told) != (look == "drawn"):
            raise SystemExit(f"the status does not speak of the change: {told}")

    before = visitor.source("#poses")
    page.click("#poses-again")
    seconds["other poses"] = visitor.until("#poses", before)
    for look in ("segmentation", "layers"):
        seconds[look] = look_at(visitor, look)
        page.wait_for_timeout(500)
        visitor.shot(out / f"{look}.png")
    if len(page.query_selector_all("#parts img")) < 5:
        raise SystemExit("the layers are not shown")
    seconds["in the photograph again"] = look_at(visitor, "photograph")
    return seconds


def look_at(visitor: Visitor, look: str) -> float:
    """Choose what is looked at; return the seconds until it is there."""
    before = visitor.source("#result")
    visitor.page.check(f"#look input[value={look}]")
    return visitor.until("#result", before)


def drag(visitor: Visitor, index: int) -> float:
    """Drag a coefficient of the middle to the left; return the seconds from letting it go to the answer.

    In the photograph the picture may stay the same; the bars never do.
    """
    page = visitor.page
    slider = page.locator("input[id^=scale-]").nth(index)
    slider.scroll_into_view_if_needed()
    box = slider.bounding_box()
    before = page.inner_text("#bars")
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.02, box["y"] + box["height"] / 2)
    page.mouse.up()
    began = time.perf_counter()
    while page.inner_text("#bars") == before:
        if time.perf_counter() - began > 300:
            raise SystemExit(f"coefficient {index}: no answer within 300 s")
        page.wait_for_timeout(10)
    return time.perf_counter() - began


def misuse_and_download(visitor: Visitor, out: Path) -> None:
    """Upload what is no picture; download picture and report."""
    page = visitor.page
    bad = out / "bad.png"
    bad.write_bytes(b"no picture at all")
    page.set_input_files("#person-upload input", bad)
    page.wait_for_selector("text=not a picture", timeout=60_000)
    page.wait_for_timeout(500)  # it slides in
    page.screenshot(path=out / "bad-upload.png")  # of the window: where on a long page it is shown says nothing
    for kind, name in (("picture", "tryon.png"), ("report", "report.json")):
        with page.expect_download(timeout=60_000) as download:
            page.click(f"#download-{kind}")
        download.value.save_as(out / name)
    with Image.open(out / "tryon.png") as picture:
        print(f"downloaded a picture of {picture.size}")
    if not json.loads((out / "report.json").read_text())["changed_by_hand"]:
        raise SystemExit("the report does not say that the coefficients were changed by hand")


def garment_by_itself(visitor: Visitor, out: Path) -> float:
    """Upload a garment that nobody wears, say so, and try it on; return the seconds that this takes."""
    page, file = visitor.page, out / "shirt.png"
    Image.fromarray(paperdoll.lay_flat(paperdoll.sample_figure(900), "top", (384, 384)).image).save(file)
    if page.is_visible("#worn"):
        raise SystemExit("of somebody in the wardrobe it is known whether they wear their clothes")
    page.set_input_files("#garment-upload input", file)
    page.wait_for_selector("#worn", timeout=60_000)
    page.check("#worn input[value=false]")
    before = visitor.source("#result")
    page.click("#try-on")
    seconds = visitor.until("#result", before)
    page.wait_for_timeout(1500)
    visitor.shot(out / "by-itself.png")
    page.click("#garment-wardrobe button >> nth=1")
    page.wait_for_selector("#worn", state="hidden", timeout=60_000)
    return seconds


def main(argv: Sequence[str] | None = None) -> None:
    """Print seconds and write screenshots; end with an error where something does not hold."""
    from playwright.sync_api import sync_playwright

    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--chromium", default=shutil.which("chromium") or "/usr/bin/chromium")
    arguments = parser.parse_args(argv)
    arguments.out.mkdir(parents=True, exist_ok=True)
    port = free_port()
    server, seconds = start(port, arguments.out / "server.log")
    print(f"answers after {seconds:.1f} s (load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores)")
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=arguments.chromium, args=FLAGS)
            for name, size in WIDTHS.items():
                folder = arguments.out / name
                folder.mkdir(exist_ok=True)
                visitor = Visitor(browser, f"http://127.0.0.1:{port}/", size, server.pid)
                visitor.shot(folder / "opened.png")
                for step, taken in go_through(visitor, folder).items():
                    print(f"{name}: {step} {taken:.2f} s")
                misuse_and_download(visitor, folder)
                print(f"{name}: try on a garment by itself {garment_by_itself(visitor, folder):.2f} s")
                print(f"{name}: {len(visitor.left)} requests left this machine; {visitor.wide()} pixels too wide")
                if visitor.left or visitor.wide() > 0 or visitor.faults:
                    raise SystemExit(f"{name}: {visitor.left} {visitor.faults}")
            browser.close()
        with Image.open(arguments.out / "desktop" / "tried-on.png") as page:
            small = page.convert("RGB").resize((1080, round(page.height * 1080 / page.width)), Image.Resampling.LANCZOS)
            small.quantize(256, dither=Image.Dither.NONE).save(arguments.out / "app.png", optimize=True)
    finally:
        server.terminate()
        server.wait(timeout=60)


if __name__ == "__main__":
    main()
