"""Tables of try-ons, on a tiny generator: faults and interruptions."""

from __future__ import annotations

import csv
import gc
import json
import os
import signal
import subprocess
import sys
import time
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import styletryon
from styletryon import cli
from styletryon.batch import BatchRow, BatchSummary, read_table, try_on_table
from styletryon.batch.storage import Folder
from styletryon.batch.wardrobe import Shot, Wardrobe
from styletryon.data import paperdoll
from styletryon.errors import ConfigError, DataError, PersonNotFoundError, RangeError, RegionError
from tests._support.people import SIZE, photographed
from tests._support.process import ROOT, SOURCE

ANYTHING = "+".join(str(number) for number in range(1, 12))
"""A region that an untrained generator's segmentation is sure to show."""


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six rendered people with their poses, a file that is no picture, and a generator."""
    return photographed(tmp_path_factory.mktemp("photos"), 6)


def write(folder: Path, rows: list[dict[str, Any]], name: str = "table.csv") -> Path:
    path = folder / name
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, ["person", "garment", "region", "out", "person_pose", "garment_pose"])
        writer.writeheader()
        writer.writerows(rows)
    return path


def pair(person: int, garment: int, /, **changes: Any) -> dict[str, Any]:
    row = {"person": f"{person}.png", "garment": f"{garment}.png", "region": ANYTHING}
    return {**row, "person_pose": f"{person}.json", "garment_pose": f"{garment}.json", **changes}


def run(table: Path, out: Path, **options: Any) -> BatchSummary:
    return try_on_table(table, out, **{"model": table.parent / "model", "preset": "fast", "batch_size": 3} | options)


def test_every_row_is_tried_on_and_each_photograph_projected_once(photos: Path, tmp_path: Path) -> None:
    table = write(photos, [pair(0, 1), pair(0, 2), pair(1, 2, out="named/x.jpg"), pair(2, 0)], "all.csv")
    ticks: list[tuple[int, int]] = []
    summary = run(table, tmp_path, progress=lambda done, total: ticks.append((done, total)))
    assert (summary.done, len(summary.failed), summary.waiting) == (4, 0, 0)
    assert ticks[-1] == (4, 4)
    assert (tmp_path / "named/x.jpg").is_file()
    assert len(list((tmp_path / "latents").glob("*.safetensors"))) == 3
    first = summary.outcomes[0]
    with Image.open(tmp_path / first.out) as image:
        assert image.size == SIZE[::-1]
    assert {"seconds", "person_reconstruction_psnr", "garment_reconstruction_psnr"} <= set(first.report)


def test_names_of_its_own_fit_file_systems_that_count_bytes(photos: Path) -> None:
    long = "長い名前" * 20  # 240 bytes; two would not go into one name
    table = write(photos, [{"person": f"{long}.png", "garment": f"{long}.png"}] * 2, "long.csv")
    first, second = read_table(table)
    assert not first.fault
    assert first.out.startswith("000002-長い名前")
    assert first.out != second.out
    assert max(len(os.fsencode(row.out)) for row in (first, second)) <= 255


def differences(photos: Path, path: Path, **options: Any) -> np.ndarray:
    """How far a picture of person 3 in the clothes of person 4 is from what `try_on` makes of them."""
    poses = [styletryon.Pose(json.loads((photos / f"{n}.json").read_text()), SIZE) for n in (3, 4)]
    alone = styletryon.try_on(
        photos / "3.png", photos / "4.png", region=range(1, 12), model=photos / "model", preset="fast",
        person_pose=poses[0], garment_pose=poses[1], **options,
    )  # fmt: skip
    with Image.open(path) as image:
        return np.abs(np.array(image, dtype=int) - np.array(alone.image, dtype=int))


def test_a_row_gives_the_picture_of_the_single_call(photos: Path, tmp_path: Path) -> None:
    run(write(photos, [pair(3, 4, out="b.png")], "single.csv"), tmp_path)
    assert differences(photos, tmp_path / "b.png").max() == 0


def test_a_row_among_others_gives_nearly_the_picture_of_the_single_call(photos: Path, tmp_path: Path) -> None:
    table = write(photos, [pair(0, 1, out="a.png"), pair(3, 4, out="b.png")], "several.csv")
    # A batch rounds otherwise than a single pair. A drawing shows that by a grey level; what is taken from the
    # photographs hangs on thresholds, so that single pixels may show something else.
    run(table, tmp_path / "with")
    assert differences(photos, tmp_path / "with" / "b.png").mean() < 1
    run(table, tmp_path / "without", detail=False)
    assert differences(photos, tmp_path / "without" / "b.png", detail=False).max() <= 2


def test_detail_survives_the_folder_of_latents(photos: Path, tmp_path: Path) -> None:
    table = write(photos, [pair(3, 4, out="b.png")], "detail.csv")

    def shown(name: str) -> np.ndarray:
        with Image.open(tmp_path / name / "b.png") as image:
            return np.array(image, dtype=int)

    run(table, tmp_path / "with")
    run(table, tmp_path / "without", detail=False)
    first = shown("with")
    assert np.abs(first - shown("without")).max() > 20
    # Read back from the folder, photographs know their poses and labels still.
    (tmp_path / "with/b.png").unlink()
    run(table, tmp_path / "with", retry_failed=True)
    assert np.array_equal(shown("with"), first)
    with pytest.raises(ConfigError, match="'detail': True"):
        run(table, tmp_path / "with", detail=False)


def test_a_row_may_be_an_outfit(photos: Path, tmp_path: Path) -> None:
    """The bundled generator draws people, so that they wear what the regions say."""
    rows = [
        "person,top,bottom,person_pose,garment,region",
        "0.png,3.png,4.png,0.json,,",
        "1.png,3.png,4.png,1.json,,",
        "0.png,,,0.json,3.png,top",
        "1.png,broken.png,4.png,1.json,,",
    ]
    table = photos / "outfits.csv"
    table.write_text("\n".join(rows))
    first, second, single, _ = read_table(table)
    assert first.garment == {"bottom": photos / "4.png", "top": photos / "3.png"}
    assert first.out == "000002-0-bottom-top.png"
    assert len({row.key for row in (first, second, single)}) == 3
    summary = run(table, tmp_path, model=None)
    assert summary.done == 3
    assert [(outcome.line, "broken.png" in outcome.reason) for outcome in summary.failed] == [(5, True)]
    assert len(list((tmp_path / "latents").glob("*.safetensors"))) == 4  # as many as there are photographs
    report = summary.outcomes[0].report
    assert {"top_loss_total", "bottom_loss_total", "top_garment_reconstruction_psnr"} <= set(report)
    assert {"loss_total", "garment_reconstruction_psnr"} <= set(summary.outcomes[2].report)
    person = styletryon.Pose(json.loads((photos / "0.json").read_text()), SIZE)
    alone = styletryon.try_on(photos / "0.png", first.garment, person_pose=person, preset="fast")
    with Image.open(tmp_path / first.out) as image:
        assert np.abs(np.asarray(image).astype(int) - np.asarray(alone.image)).mean() < 1
    assert run(table, tmp_path, model=None).outcomes == summary.outcomes


def test_rows_of_outfits_may_be_made_by_hand(photos: Path, tmp_path: Path) -> None:
    worn = {"top": photos / "3.png", "bottom": str(photos / "4.png")}
    poses = {"top": photos / "3.json"}
    row = BatchRow(1, photos / "0.png", worn, "", "a.png", photos / "0.json", poses)
    assert row.garments == {"top": (photos / "3.png", photos / "3.json"), "bottom": (str(photos / "4.png"), None)}
    other = replace(row, garment=dict(reversed(worn.items())))
    assert other.key == row.key
    assert replace(row, garment_pose=None).key != row.key
    clash = replace(row, garment={**worn, "dress": photos / "5.png"}, out="b.png")
    summary = try_on_table([clash], tmp_path, preset="fast")
    assert "expected garments that can be worn together" in summary.failed[0].reason


def test_a_table_says_whether_somebody_wears_the_garments(photos: Path, tmp_path: Path) -> None:
    """A garment by itself has no place in a region of a whole outfit: that is how it shows as what it was taken."""
    shirt = paperdoll.lay_flat(paperdoll.sample_figure(900), "top", (320, 320)).image
    Image.fromarray(shirt).save(photos / "shirt.png")
    said = ["", "no", "Yes", "True", "0", "perhaps"]
    heading = "person,garment,region,person_pose,garment_worn"
    (photos / "worn.csv").write_text(
        "\n".join([heading, *(f"0.png,shirt.png,{ANYTHING},0.json,{one}" for one in said)])
    )
    rows = read_table(photos / "worn.csv")
    assert [row.garment_worn for row in rows] == [None, False, True, True, False, None]
    assert rows[-1].fault == "garment_worn: expected yes, no or an empty cell, got 'perhaps'"
    assert rows[0].key != replace(rows[0], garment_worn=False).key != replace(rows[0], garment_worn=True).key

    def reasons(folder: str, **options: Any) -> list[str]:
        return [outcome.reason for outcome in run(photos / "worn.csv", tmp_path / folder, **options).failed]

    alone, nobody = "got a garment that nobody wears", "expected a photograph of somebody who wears the garment"
    for options, expected in (({}, alone), ({"garment_worn": False}, alone), ({"garment_worn": True}, nobody)):
        found = reasons(str(options.get("garment_worn")), **options)
        assert [expected in found[0], alone in found[1], nobody in found[2]] == [True] * 3, found
    assert cli.main(
        ["try-on-batch", str(photos / "worn.csv"), "-o", str(tmp_path / "True"), "--model", str(photos / "model"),
         "--preset", "fast", "--garment-worn", "yes", "--quiet"]
    ) == 1  # fmt: skip
    assert len((tmp_path / "True" / "rows.jsonl").read_text().splitlines()) == len(said), "the option is the same"


def test_a_garment_by_itself_is_what_try_on_takes_it_for(photos: Path, tmp_path: Path) -> None:
    """A shirt is worn as outerwear where it is asked for as such, and is not worn as trousers."""
    shirt = photos / "lying.png"
    Image.fromarray(paperdoll.lay_flat(paperdoll.sample_figure(900), "top", (320, 320)).image).save(shirt)
    regions = ("outerwear", "bottom")
    rows = [
        BatchRow(line, photos / "0.png", shirt, region, f"{region}.png", photos / "0.json")
        for line, region in enumerate(regions)
    ]
    summary = try_on_table(rows, tmp_path, preset="fast", batch_size=1)
    pipeline = styletryon.TryOnPipeline(preset="fast")
    person = styletryon.Pose(json.loads((photos / "0.json").read_text()), SIZE)
    alone = pipeline(photos / "0.png", shirt, region="outerwear", person_pose=person)
    with Image.open(tmp_path / "outerwear.png") as image:
        assert np.array_equal(np.asarray(image), np.asarray(alone.image))
    with pytest.raises(RegionError) as refused:
        pipeline(photos / "0.png", shirt, region="bottom", person_pose=person)
    assert [outcome.reason for outcome in summary.failed] == [str(refused.value)]


@pytest.mark.parametrize("role", ["person", "garment"])
def test_what_try_on_refuses_is_refused_in_its_words(photos: Path, tmp_path: Path, role: str) -> None:
    Image.new("RGB", (96, 128), "grey").save(photos / "grey.png")
    given = {"person": photos / "0.png", "garment": photos / "0.png", role: photos / "grey.png"}
    poses = {"person": photos / "0.json", "garment": photos / "0.json", role: None}
    row = BatchRow(1, *given.values(), "top", "a.png", *poses.values(), garment_worn=True)
    (outcome,) = try_on_table([row], tmp_path, model=photos / "model", preset="fast").failed
    points = {f"{name}_pose": json.loads(file.read_text()) for name, file in poses.items() if file}
    known = {name: styletryon.Pose(each, SIZE) for name, each in points.items()}
    with pytest.raises(PersonNotFoundError) as refused:
        styletryon.try_on(*given.values(), model=photos / "model", preset="fast", garment_worn=True, **known)
    assert outcome.reason == str(refused.value).replace(f"{role}: ", "grey.png: ")


def test_a_row_made_by_hand_with_an_unknown_region_fails_alone(photos: Path, tmp_path: Path) -> None:
    row = BatchRow(1, photos / "0.png", photos / "1.png", "hat", "a.png", photos / "0.json", photos / "1.json")
    sound = replace(row, line=2, region=ANYTHING, out="b.png")
    summary = try_on_table([row, sound], tmp_path, model=photos / "model", preset="fast")
    assert [(outcome.line, outcome.status) for outcome in summary.outcomes] == [(1, "failed"), (2, "done")]
    assert summary.failed[0].reason.startswith("region: expected")
    assert "'hat'" in summary.failed[0].reason


def test_who_wears_a_garment_is_projected_once_whatever_is_taken_of_them(photos: Path, tmp_path: Path) -> None:
    rows = [
        BatchRow(line, photos / "1.png", photos / "0.png", region, f"{line}.png", photos / "1.json", photos / "0.json")
        for line, region in enumerate((ANYTHING, "1+2+3+4+5+6+8+9+10"))
    ]
    rows.append(replace(rows[0], line=2, person=rows[0].garment, person_pose=rows[0].garment_pose, out="2.png"))
    assert try_on_table(rows, tmp_path, model=photos / "model", preset="fast").done == 3
    assert len(list((tmp_path / "latents").glob("*.json"))) == 2


def test_what_is_refused_keeps_no_picture(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = styletryon.TryOnPipeline(photos / "model", preset="fast")
    wardrobe = Wardrobe(Folder(tmp_path), pipeline)
    kept: list[weakref.ref[Image.Image]] = []

    def read(*_: object, **__: object) -> None:
        picture = Image.new("RGB", (8, 8))
        kept.append(weakref.ref(picture))
        raise PersonNotFoundError("expected somebody, got nobody", argument="person")

    monkeypatch.setattr(pipeline, "read", read)
    for _ in range(2):
        with pytest.raises(PersonNotFoundError, match=r"^0\.png: expected somebody"):
            wardrobe.get(Shot(photos / "0.png"))
    gc.collect()
    assert [one() for one in kept] == [None], "it is read once, and gone"


def test_bad_rows_say_why_and_stop_nobody(photos: Path, tmp_path: Path) -> None:
    rows = [
        pair(0, 1),
        pair(0, 1, garment="broken.png"),
        pair(0, 1, person="missing.png"),
        pair(0, 1, region="hat"),
        pair(0, 1, out="../escape.png"),
        pair(0, 1, out="x.gif"),
        pair(0, 1, person=""),
        pair(0, 1, person_pose="missing.json"),
        pair(0, 1, person_pose="broken.png"),
        pair(1, 0, region="6"),  # the untrained generator may or may not show one class: done or a reason
        pair(2, 1, out="twice.png"),
        pair(2, 3, out="twice.png"),
    ]
    summary = run(write(photos, rows, "bad.csv"), tmp_path / "out")
    assert summary.waiting == 0
    reasons = {outcome.line: outcome.reason for outcome in summary.failed}
    expected = {3: "broken.png", 4: "missing.png", 5: "hat", 6: "inside the output folder", 7: r".png, .jpg",
                8: "person: expected", 9: "missing.json", 10: "broken.png", 13: "which line 12 writes"}  # fmt: skip
    for line, text in expected.items():
        assert text in reasons[line], (line, reasons)
    assert {outcome.line for outcome in summary.outcomes if outcome.status == "done"} >= {2, 12}
    assert not (tmp_path / "escape.png").exists()
    assert "line 5:" in summary.table()


def test_what_is_done_is_not_done_again(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = write(photos, [pair(0, 1), pair(1, 2), pair(0, 1, garment="broken.png", out="n.png")], "again.csv")
    first = run(table, tmp_path)
    written = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.png")}

    def never(*_: object, **__: object) -> None:
        raise AssertionError("nothing is left to do")

    monkeypatch.setattr(styletryon.TryOnOptimizer, "optimize", never)
    monkeypatch.setattr(styletryon.LatentProjector, "project", never)
    assert run(table, tmp_path).outcomes == first.outcomes
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.png")} == written
    again = run(table, tmp_path, retry_failed=True)  # the photograph still cannot be read
    assert again.failed[0].reason == first.failed[0].reason


def test_a_lost_picture_and_a_torn_line_are_made_good(photos: Path, tmp_path: Path) -> None:
    table = write(photos, [pair(0, 1, out="a.png"), pair(1, 2, out="b.png")], "torn.csv")
    run(table, tmp_path)
    (tmp_path / "a.png").unlink()
    journal = tmp_path / "rows.jsonl"
    journal.write_bytes(journal.read_bytes()[:-20])
    cached = next((tmp_path / "latents").glob("*.safetensors"))
    cached.write_bytes(cached.read_bytes()[:100])
    summary = run(table, tmp_path)
    assert summary.done == 2
    assert (tmp_path / "a.png").is_file()


@pytest.mark.slow
def test_a_killed_batch_goes_on_and_does_no_row_twice(photos: Path, tmp_path: Path) -> None:
    rows = [pair(a, b) for a in range(4) for b in range(4) if a != b]
    for number in (1, 9):
        rows[number]["garment"] = "broken.png"
    table, out = write(photos, rows, "killed.csv"), tmp_path / "out"
    command = [sys.executable, "-m", "styletryon", "try-on-batch", table, "-o", out, "--model", photos / "model"]
    command += ["--preset", "fast", "--batch-size", "2", "--threads", "1"]
    environment = {**os.environ, "PYTHONPATH": str(SOURCE), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([str(word) for word in command], cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)
    while process.poll() is None and len(list(out.glob("*.png"))) < 3:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    journal = out / "rows.jsonl"
    before = [json.loads(line) for line in journal.read_text().splitlines() if line.endswith("}")]
    assert 0 < len(before) < len(rows)
    ended = {row["out"]: (out / row["out"]).stat().st_mtime_ns for row in before if row["status"] == "done"}
    done = subprocess.run([str(word) for word in command], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    assert "10 done, 2 failed, 0 waiting" in done.stdout
    assert all((out / name).stat().st_mtime_ns == when for name, when in ended.items())
    keys = [json.loads(line)["key"] for line in journal.read_text().splitlines() if line.endswith("}")]
    assert len(keys) == len(set(keys)) == len(rows)
    summary = json.loads((out / "summary.json").read_text())
    assert len(summary["outcomes"]) == 12


def test_other_settings_do_not_mix(photos: Path, tmp_path: Path) -> None:
    table = write(photos, [pair(0, 1)], "settings.csv")
    run(table, tmp_path)
    with pytest.raises(ConfigError, match=r"^out: expected a folder of results with"):
        run(table, tmp_path, seed=5)
    (tmp_path / "settings.json").write_text("{")
    with pytest.raises(ConfigError, match=r"^out: cannot read"):
        run(table, tmp_path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "expected the columns person, garment, and perhaps region, out"),
        ("person,garment\n", "expected rows"),
        ("person\na.png\n", "expected the columns person, garment"),
        ("person,garment,colour\na,b,c\n", "expected the columns person, garment"),
    ],
)
def test_tables_that_are_none(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "table.csv").write_text(text)
    with pytest.raises(DataError, match=f"^table: {said}"):
        read_table(tmp_path / "table.csv")
    with pytest.raises(DataError, match=r"^table: expected a CSV file"):
        read_table(tmp_path / "missing.csv")


def test_a_number_that_makes_no_sense(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(RangeError, match=r"^batch_size: "):
        run(write(photos, [pair(0, 1)], "numbers.csv"), tmp_path, batch_size=0)


def test_the_command_says_what_failed(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = write(photos, [pair(0, 1), pair(0, 1, garment="broken.png", out="n.png")], "command.csv")
    arguments = ["try-on-batch", str(table), "-o", str(tmp_path), "--model", str(photos / "model"), "--preset", "fast"]
    assert cli.main(arguments) == 1
    said = capsys.readouterr().out
    assert "1 done, 1 failed, 0 waiting" in said
    assert "line 3:" in said
    table = write(photos, [pair(0, 1, region="", out="m.png")], "region.csv")
    arguments[1] = str(table)
    assert cli.main([*arguments, "--region", "1,2,3,4,5,6,7,8,9,10,11"]) == 0
    assert "1 done, 0 failed" in capsys.readouterr().out
