"""The command line, run in this process on a tiny model; a few runs in a process of their own."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import styletryon
from styletryon import cli
from styletryon.data import paperdoll
from styletryon.pose import Pose
from tests._support.process import ROOT, SOURCE, run_python
from tests._support.tiny import tiny_generator

ANY_REGION = "1,2,3,4,5,6,7,8,9,10,11"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("model")
    tiny_generator().save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two pictures and their keypoints, both ways in which a pose file may hold them."""
    folder = tmp_path_factory.mktemp("pictures")
    poses = {}
    for name, seed in (("person", 3), ("garment", 4)):
        figure = paperdoll.render(paperdoll.sample_figure(seed), (160, 120))
        Image.fromarray(figure.image).save(folder / f"{name}.png")
        poses[name] = figure.keypoints.tolist()
    (folder / "keypoints.json").write_text(json.dumps(poses))
    (folder / "garment.json").write_text(json.dumps(poses["garment"]))
    return folder


def size_of(path: Path) -> tuple[int, int]:
    """Width and height of a picture."""
    with Image.open(path) as picture:
        return picture.size


def try_on(pictures: Path, model: str, out: Path, *options: str) -> int:
    """Run `styletryon try-on` on the two pictures."""
    return cli.main(
        [
            *("try-on", str(pictures / "person.png"), str(pictures / "garment.png"), "-o", str(out)),
            *("--model", model, "--preset", "fast", "--region", ANY_REGION),
            *("--person-pose", str(pictures / "keypoints.json"), "--garment-pose", str(pictures / "garment.json")),
            *options,
        ]
    )


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"styletryon {styletryon.__version__}\n"


@pytest.mark.parametrize(
    "command",
    [
        "demo", "try-on", "try-on-batch", "project", "generate", "train", "train-encoder", "curves", "evaluate",
        "paperdoll", "prepare", "info", "app", "serve", "export-onnx",
    ],
)
def test_help_of_every_command(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main([command, "--help"])
    assert ended.value.code == 0
    assert "--debug" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["fly"],
        ["try-on", "a.jpg"],
        ["try-on", "a.jpg", "-o", "c.png"],
        ["try-on", "a.jpg", "b.jpg", "--top", "b.jpg", "-o", "c.png"],
        ["demo", "out", "--preset", "best"],
        ["demo", "out", "--region", "hat"],
        ["paperdoll", "out", "--count", "1", "--size", "9"],
    ],
)
def test_wrong_usage_ends_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    assert ended.value.code == 2
    assert "usage: styletryon" in capsys.readouterr().err


def test_demo_writes_its_files(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "new" / "out"
    assert cli.main(["demo", str(out), "--model", model, "--preset", "fast", "--region", ANY_REGION]) == 0
    assert sorted(path.name for path in out.iterdir()) == [
        "figure.png", "garment.jpg", "person.jpg", "rendered.png", "report.json", "tryon.png",
    ]  # fmt: skip
    wide, tall = size_of(out / "person.jpg")
    assert min(wide, tall) >= 512
    assert size_of(out / "tryon.png") == (wide, tall)
    assert size_of(out / "figure.png")[1] == tall
    assert size_of(out / "rendered.png") == (3 * 384 + 2 * 8, 512)
    report = json.loads((out / "report.json").read_text())
    assert {"seconds", "outside_change", "person_reconstruction_psnr"} <= set(report)
    captured = capsys.readouterr()
    assert captured.out.count("\n") == 7
    # No terminal: a line per stage, of each of the two try-ons.
    assert captured.err.split("\n") == [*["reading", "pose and labels", "projecting", "dressing", "composing"] * 2, ""]


class TestTryOn:
    def test_picture_figure_and_report(self, pictures: Path, model: str, tmp_path: Path) -> None:
        out, figure, report = tmp_path / "a" / "tryon.png", tmp_path / "b" / "figure.jpg", tmp_path / "c" / "r.json"
        assert try_on(pictures, model, out, "--figure", str(figure), "--report", str(report), "--quiet") == 0
        assert size_of(out) == (120, 160)
        assert size_of(figure)[1] == 160
        assert "status" in json.loads(report.read_text())
        assert [path.name for path in (tmp_path / "a").iterdir()] == ["tryon.png"]

    def test_an_outfit_is_the_call(self, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        out, report = tmp_path / "tryon.png", tmp_path / "report.json"
        person, garment = (str(pictures / f"{name}.png") for name in ("person", "garment"))
        options = ["--person-pose", str(pictures / "keypoints.json"), "--preset", "fast", "--report", str(report)]
        assert cli.main(["try-on", person, "--top", garment, "--bottom", garment, "-o", str(out), *options]) == 0
        told = capsys.readouterr()
        assert told.out.splitlines()[-1] == str(out)
        assert "status bottom: " in told.out
        # A stage is shown once, however many garments there are.
        assert [line for line in told.err.splitlines() if line == "dressing"] == ["dressing"]
        pose = styletryon.Pose(json.loads((pictures / "keypoints.json").read_text())["person"], (160, 120))
        outfit = {"bottom": garment, "top": garment}
        result = styletryon.try_on(person, outfit, person_pose=pose, preset="fast")
        with Image.open(out) as saved:
            assert np.array_equal(np.asarray(saved), np.asarray(result.image))
        assert set(json.loads(report.read_text())) == set(result.report)

    def test_it_is_the_call(self, pictures: Path, model: str, tmp_path: Path) -> None:
        assert try_on(pictures, model, tmp_path / "tryon.png", "--seed", "4", "--no-composite") == 0
        poses = json.loads((pictures / "keypoints.json").read_text())
        result = styletryon.try_on(
            pictures / "person.png",
            pictures / "garment.png",
            region=range(1, 12),
            model=model,
            person_pose=styletryon.Pose(poses["person"], (160, 120)),
            garment_pose=styletryon.Pose(poses["garment"], (160, 120)),
            preset="fast",
            seed=4,
            composite=False,
        )
        with Image.open(tmp_path / "tryon.png") as saved:
            assert np.array_equal(np.asarray(saved), np.asarray(result.image))

    def test_quiet_says_nothing(
        self, pictures: Path, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert try_on(pictures, model, tmp_path / "tryon.png", "--quiet") == 0
        assert capsys.readouterr() == ("", "")

    @pytest.mark.parametrize(
        ("options", "complaint"),
        [
            (["--person-pose", "none.json"], "--person-pose: no such file or folder"),
            (["--person-pose", "@{}"], "--person-pose: expected an entry 'person'"),
            (["--person-pose", "@[[1, 2]]"], "--person-pose: expected (17, 3)"),
            (["--person-pose", "@[1, {}]"], "--person-pose: expected (17, 3)"),
            (["--model", "nobody-trained-this"], "model: expected a folder"),
            (["--device", "toaster"], "device: expected a device that this machine has"),
        ],
    )
    def test_what_is_wrong_is_said_in_one_sentence(
        self,
        options: list[str],
        complaint: str,
        pictures: Path,
        model: str,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        option, value = options
        if value.startswith("@"):
            (tmp_path / "pose.json").write_text(value[1:])
            value = str(tmp_path / "pose.json")
        assert try_on(pictures, model, tmp_path / "out" / "tryon.png", option, value) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        assert complaint in captured.err
        assert captured.err.startswith("styletryon try-on: ")
        assert captured.err.count("\n") == 1
        assert not (tmp_path / "out").exists()

    def test_missing_picture(self, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert cli.main(["try-on", "nobody.jpg", "nothing.jpg", "-o", str(tmp_path / "t.png"), "--model", model]) == 2
        assert capsys.readouterr().err.startswith("styletryon try-on: person: no such file")

    def test_out_that_cannot_be_written(
        self, pictures: Path, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "file").write_text("mine")
        assert try_on(pictures, model, tmp_path / "file" / "tryon.png") == 2
        assert "--out: expected a folder that can be made" in capsys.readouterr().err
        assert (tmp_path / "file").read_text() == "mine"

    def test_debug_shows_the_traceback(self, pictures: Path, model: str, tmp_path: Path) -> None:
        with pytest.raises(styletryon.errors.CheckpointNotFoundError):
            try_on(pictures, "nobody-trained-this", tmp_path / "t.png", "--debug")
        del model

    def test_pose_help(self, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit) as ended:
            cli.main(["try-on", "--pose-help"])
        assert ended.value.code == 0
        assert "COCO" in capsys.readouterr().out


class TestProject:
    def test_the_latent_the_drawing_and_the_report(
        self, pictures: Path, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
    ) -> None:
        monkeypatch.setitem(styletryon.LatentProjector.__init__.__kwdefaults__, "tuning_steps", 5)
        options = ["--model", model, "--preset", "fast", "--pose", str(pictures / "keypoints.json")]
        latents = {}
        for name, more in (("plain", []), ("tuned", ["--tune"])):
            out = tmp_path / f"{name}.safetensors"
            files = ["-o", str(out), "--drawing", str(tmp_path / f"{name}.png"), "--report", str(tmp_path / "r.json")]
            assert cli.main(["project", str(pictures / "person.png"), *files, *options, *more]) == 0
            assert capsys.readouterr().out.splitlines()[-1] == str(out)
            latents[name] = styletryon.Latent.load(out)
            assert json.loads((tmp_path / "r.json").read_text()) == dict(latents[name].report)
            assert size_of(tmp_path / f"{name}.png") == (24, 32)
        assert latents["plain"].tuning is None
        assert latents["tuned"].tuning is not None
        assert latents["tuned"].report["reconstruction_psnr"] > latents["plain"].report["reconstruction_psnr"]
        expected = styletryon.load_model(model).draw(latents["tuned"]).image
        drawn = np.asarray(Image.open(tmp_path / "tuned.png"), dtype=np.float64) / 127.5 - 1
        assert np.abs(drawn - expected[0].clamp(-1, 1).permute(1, 2, 0).numpy()).max() < 0.01

    def test_try_on_reads_what_it_wrote(self, pictures: Path, model: str, tmp_path: Path) -> None:
        options = ["--model", model, "--preset", "fast", "--quiet"]
        latents = [str(tmp_path / f"{name}.safetensors") for name in ("person", "garment")]
        for name, latent in zip(("person", "garment"), latents, strict=True):
            pose = ["--pose", str(pictures / "keypoints.json")]
            assert cli.main(["project", str(pictures / f"{name}.png"), "-o", latent, *pose, *options]) == 0
        out = tmp_path / "out.png"
        assert cli.main(["try-on", *latents, "-o", str(out), "--region", ANY_REGION, *options]) == 0
        assert size_of(out) == size_of(pictures / "person.png")  # not the generator's
        person, garment = (styletryon.Latent.load(path) for path in latents)
        known = styletryon.try_on(person, garment, model=model, preset="fast", region=set(range(1, 12)))
        assert np.array_equal(np.asarray(Image.open(out)), np.asarray(known.image))
        by_path = styletryon.try_on(latents[0], garment, model=model, preset="fast", region=set(range(1, 12)))
        assert by_path.image.tobytes() == known.image.tobytes()

    def test_quiet_says_nothing_and_faults_end_with_2(
        self, pictures: Path, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        arguments = ["project", str(pictures / "person.png"), "--model", model, "--preset", "fast", "--quiet"]
        pose = ["--pose", str(pictures / "keypoints.json")]
        assert cli.main([*arguments, *pose, "-o", str(tmp_path / "a.safetensors")]) == 0
        assert capsys.readouterr() == ("", "")
        assert cli.main([*arguments, "-o", str(tmp_path / "b"), "--pose", str(tmp_path / "missing.json")]) == 2
        assert "--pose: no such file or folder" in capsys.readouterr().err
        assert cli.main([*arguments, *pose, "-o", str(tmp_path / "b"), "--box", "0,0,50,50"]) == 2
        assert "box: expected None beside a pose" in capsys.readouterr().err
        assert not (tmp_path / "b").exists()


class TestGenerate:
    def test_one_picture(self, model: str, tmp_path: Path) -> None:
        assert cli.main(["generate", "-o", str(tmp_path / "one.png"), "--seed", "3", "--model", model]) == 0
        assert size_of(tmp_path / "one.png") == (24, 32)

    def test_many_side_by_side(self, model: str, tmp_path: Path) -> None:
        assert cli.main(["generate", "-o", str(tmp_path / "many.png"), "--count", "10", "--model", model]) == 0
        assert size_of(tmp_path / "many.png") == (8 * 24, 2 * 32)

    def test_many_in_a_folder(self, model: str, tmp_path: Path) -> None:
        assert cli.main(["generate", "-o", str(tmp_path), "--seed", "7", "--count", "2", "--model", model]) == 0
        assert sorted(path.name for path in tmp_path.iterdir()) == ["000007.png", "000008.png"]

    @pytest.mark.parametrize("options", [["--count", "0"], ["--truncation", "2"]])
    def test_numbers_out_of_range(self, options: list[str], model: str, tmp_path: Path) -> None:
        assert cli.main(["generate", "-o", str(tmp_path / "one.png"), "--model", model, *options]) == 2


class TestTrain:
    def test_from_figures_to_a_model_that_draws(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        data, run = str(tmp_path / "data"), str(tmp_path / "run")
        assert cli.main(["paperdoll", data, "--count", "12", "--size", "64x48"]) == 0
        options = ["--preset", "tiny", "--pictures", "64", "--quiet"]
        watching = ["--tensorboard", "--log-every", "4", "--sample-every", "12"]
        assert cli.main(["train", data, "--out", run, *options, *watching]) == 0
        assert "complete" in capsys.readouterr().out
        assert sorted(path.name for path in (tmp_path / "run").iterdir()) == [
            "checkpoints", "curves.png", "metrics.csv", "metrics.jsonl", "model", "samples", "tensorboard",
            "training.json",
        ]  # fmt: skip
        assert {path.name[:12] for path in (tmp_path / "run" / "samples").iterdir()} == {"step-0000012"}
        assert cli.main(["train", data, "--out", run, *options]) == 2
        assert "resume" in capsys.readouterr().err
        assert cli.main(["generate", "-o", str(tmp_path / "one.png"), "--model", f"{run}/model"]) == 0
        # Its own settings, without being told; and those of the file, changed, from its weights.
        assert cli.main(["train", data, "--out", run, "--resume", "--quiet"]) == 0
        other = [
            "--config", f"{run}/training.json", "--start", f"{run}/model", "--set", "batch_size=2", "--set", "tryons=0",
            "--accumulate", "1", "--precision", "fp32", "--keep", "1", "--workers", "1", "--no-cache", "--minutes", "0",
        ]  # fmt: skip
        assert cli.main(["train", data, "--out", f"{run}2", *other, "--quiet"]) == 0
        assert "--resume" in capsys.readouterr().out
        settings = json.loads((tmp_path / "run2" / "training.json").read_text())
        assert settings["batch_size"] == 2
        assert [file.name for file in (tmp_path / "run2" / "checkpoints").iterdir()] == ["step-00000000.safetensors"]

    def test_wrong_input(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert cli.main(["train", str(tmp_path), "--out", str(tmp_path / "run"), "--preset", "tiny"]) == 2
        assert cli.main(["train", str(tmp_path), "--out", str(tmp_path / "run"), "--preset", "huge"]) == 2
        assert cli.main(["train", str(tmp_path), "--out", str(tmp_path / "run"), "--threads", "0"]) == 2
        assert cli.main(["train", str(tmp_path), "--out", str(tmp_path / "run"), "--set", "batchsize=8"]) == 2
        assert capsys.readouterr().err.count("\n") == 4
        with pytest.raises(SystemExit):
            cli.main(["train", str(tmp_path), "--out", str(tmp_path / "run"), "--set", "batch_size"])


class TestTrainEncoder:
    def test_a_model_with_another_encoder(
        self, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        data, run = str(tmp_path / "data"), str(tmp_path / "run")
        assert cli.main(["paperdoll", data, "--count", "12", "--size", "32x24"]) == 0
        options = ["--pictures", "16", "--batch-size", "4", "--fresh", "--quiet"]
        capsys.readouterr()
        assert cli.main(["train-encoder", model, data, "--out", run, *options, "--minutes", "0"]) == 0
        stopped = capsys.readouterr().out
        again = shlex.split(stopped[stopped.index("styletryon ") :])[1:]
        assert again[-1] == "--resume"
        assert cli.main([*again, "--quiet"]) == 0
        assert "complete" in capsys.readouterr().out
        assert cli.main(["train-encoder", model, data, "--out", run, *options]) == 2
        assert "resume" in capsys.readouterr().err
        trained = styletryon.load_model(f"{run}/model")
        assert trained.fingerprint == styletryon.load_model(model).fingerprint

    @pytest.mark.parametrize("options", [["--pictures", "3"], ["--drawings", "2"], ["--learning-rate", "0"]])
    def test_wrong_input(
        self, options: list[str], model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        arguments = ["train-encoder", model, str(tmp_path), "--out", str(tmp_path / "run"), *options]
        assert cli.main(arguments) == 2
        name = options[0].removeprefix("--").replace("-", "_")
        assert name in capsys.readouterr().err


class TestCurves:
    def test_they_are_drawn_from_the_log(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (tmp_path / "metrics.jsonl").write_text('{"step": 100, "pictures": 800, "pixel": 0.5}\n')
        assert cli.main(["curves", str(tmp_path)]) == 0
        assert cli.main(["curves", str(tmp_path), "-o", str(tmp_path / "new" / "c.png")]) == 0
        assert capsys.readouterr().out.split() == [str(tmp_path / "curves.png"), str(tmp_path / "new" / "c.png")]
        assert size_of(tmp_path / "new" / "c.png") == size_of(tmp_path / "curves.png")

    def test_no_log(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert cli.main(["curves", str(tmp_path)]) == 2
        assert "metrics.jsonl" in capsys.readouterr().err


class TestEvaluate:
    def test_json_and_table(self, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        out = tmp_path / "new" / "evaluation.json"
        options = ["--model", model, "--preset", "fast", "--methods", "noop_photo,noop"]
        assert cli.main(["evaluate", "--pairs", "2", "--seed", "1", "--json", str(out), *options]) == 0
        report = json.loads(out.read_text())
        assert set(report["methods"]) >= {"noop_photo"}
        assert "noop_photo" in capsys.readouterr().out

    @pytest.mark.parametrize("options", [["--region", "4,5"], ["--pairs", "0"], ["--methods", "magic"]])
    def test_wrong_settings(self, options: list[str], model: str, capsys: pytest.CaptureFixture[str]) -> None:
        assert cli.main(["evaluate", "--model", model, *options]) == 2
        assert capsys.readouterr().err.startswith("styletryon evaluate: ")

    @pytest.mark.parametrize(
        ("options", "reason"),
        [
            (["--metrics", "fid"], "--metrics: expected --data with photographs to compare with, got none"),
            (["--pairs-table", "p.csv", "--pose-transfer"], "--pose-transfer: expected one kind of evaluation"),
            (["--split", "val"], "--split: expected an option that rendered pairs uses"),
            (["--pose-transfer", "--methods", "ours"], "--methods: expected an option that --pose-transfer uses"),
            (["--data", "d", "--estimate-poses"], "--estimate-poses: expected an option that --data uses"),
            (["--data", "d", "--metrics", "kid", "--no-cycle"], "--cycle: expected an option that --metrics uses"),
            (["--data", "d", "--garment-worn", "no"], "--garment-worn: expected an option that --data uses"),
            (["--pairs-table", "p.csv", "--data", "d"], "--data: expected an option that --pairs-table uses"),
        ],
    )
    def test_options_that_do_not_go_together(
        self, options: list[str], reason: str, model: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert cli.main(["evaluate", "--model", model, *options]) == 2
        assert reason in capsys.readouterr().err

    def test_every_kind_reaches_its_function(
        self, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from styletryon import metrics

        monkeypatch.chdir(tmp_path)
        (tmp_path / "d").mkdir()
        (tmp_path / "p.csv").touch()
        called: dict[str, Any] = {}

        def remember(name: str) -> Callable[..., metrics.EvaluationReport]:
            def function(*arguments: Any, **options: Any) -> metrics.EvaluationReport:
                called.clear()
                called.update(options, name=name, arguments=arguments[1:])
                return metrics.EvaluationReport(name, {}, {})

            return function

        for name in ("evaluate", "evaluate_folder", "evaluate_table", "evaluate_generator", "pose_transfer"):
            monkeypatch.setattr(metrics, name, remember(name))

        def run(*options: str) -> dict[str, Any]:
            assert cli.main(["evaluate", "--model", model, "--quiet", *options]) == 0
            return called

        assert run("--methods", "ours,swap")["name"] == "evaluate"
        assert called["methods"] == ["ours", "swap"]
        assert run("--estimate-poses")["estimate_pose"] is styletryon.estimate_pose
        assert run("--data", "d", "--split", "test", "--cycle")["name"] == "evaluate_folder"
        assert (called["data"], called["split"], called["cycle"]) == (Path("d"), "test", True)
        assert run("--pairs-table", "p.csv", "--no-cycle")["arguments"] == (Path("p.csv"),)
        assert (called["name"], called["cycle"]) == ("evaluate_table", False)
        assert "pairs" not in called
        assert "garment_worn" not in called
        assert run("--pairs-table", "p.csv", "--garment-worn", "no")["garment_worn"] is False
        assert run("--data", "d", "--metrics", "fid,kid", "--samples", "9")["name"] == "evaluate_generator"
        assert (called["metrics"], called["samples"], called["pairs"]) == (["fid", "kid"], 9, 64)
        assert run("--data", "d", "--features", "keypoints")["features"].name == "keypoints"
        for option in ("--pose-transfer", "--pose-following"):
            assert run(option, "--data", "d", "--pairs", "3")["name"] == "pose_transfer"
        assert (called["data"], called["pairs"]) == (Path("d"), 3)

    def test_bad_rows_of_a_table_are_reported(
        self, model: str, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        person, garment, table = pictures / "person.png", pictures / "garment.png", tmp_path / "pairs.csv"
        table.write_text(f"person,garment,region\n{person},{garment},top\n{person},c.png,top\n")
        options = ["--model", model, "--preset", "fast", "--methods", "noop", "--pairs-table", str(table)]
        assert cli.main(["evaluate", *options]) == 1
        printed = capsys.readouterr().out
        assert "rows left out: 1" in printed
        assert "line 3: garment c.png: " in printed


class TestPaperdoll:
    def test_a_data_set_that_training_reads(self, tmp_path: Path) -> None:
        from styletryon.data import FolderDataset

        assert cli.main(["paperdoll", str(tmp_path / "d"), "--count", "3", "--size", "64x48", "--seed", "5"]) == 0
        dataset = FolderDataset(tmp_path / "d", size=(64, 48))
        assert 1 <= len(dataset) <= 3

    def test_count_out_of_range(self, tmp_path: Path) -> None:
        assert cli.main(["paperdoll", str(tmp_path / "d"), "--count", "0"]) == 2


class TestPrepare:
    @pytest.fixture
    def photos(self, tmp_path: Path) -> Path:
        options = ["--count", "3", "--size", "64x48", "--stances", "1"]
        assert cli.main(["paperdoll", str(tmp_path / "photos"), *options]) == 0
        (tmp_path / "photos" / "split.json").unlink()
        return tmp_path / "photos"

    def test_a_data_set_that_training_reads(
        self, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        from styletryon.data import FolderDataset

        (photos / "images" / "broken.jpg").write_text("no picture")
        out = str(tmp_path / "out")
        options = ["--size", "64x48", "--background", "keep", "--val", "0.4", "--seed", "2", "--workers", "2"]
        capsys.readouterr()
        assert cli.main(["prepare", str(photos), out, *options]) == 0
        shown = capsys.readouterr().out
        assert "3  prepared" in shown
        assert "1  unreadable" in shown
        assert shown.endswith(f"{out}\n")
        assert len(FolderDataset(out, size=(64, 48))) == 2
        assert cli.main(["prepare", str(photos), out, *options, "--quiet"]) == 0
        assert capsys.readouterr().out == ""

    def test_keypoints_and_labels_from_elsewhere(self, photos: Path, tmp_path: Path) -> None:
        from styletryon.data import FolderDataset

        table = (photos / "keypoints.json").rename(tmp_path / "mine.json")
        labels = (photos / "labels").rename(tmp_path / "classes")
        arguments = ["--labels", str(labels), "--keypoints", str(table), "--size", "64x48", "--background", "102030"]
        assert cli.main(["prepare", str(photos / "images"), str(tmp_path / "out"), *arguments]) == 0
        assert len(FolderDataset(tmp_path / "out", size=(64, 48), split="val")) == 1

    def test_wrong_input(self, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        out, keypoints = str(tmp_path / "out"), tmp_path / "list.json"
        keypoints.write_text("[]")
        for options, said in (
            (["--keypoints", str(keypoints)], "--keypoints: expected an object"),
            (["--keypoints", str(tmp_path / "none.json")], "--keypoints: expected a JSON file"),
            (["--background", "pale"], "background: expected"),
            (["--workers", "0"], "workers: expected"),
        ):
            assert cli.main(["prepare", str(photos), out, *options]) == 2
            assert said in capsys.readouterr().err

    def test_the_bundled_parser_finds_labels(
        self, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        shutil.rmtree(photos / "labels")
        seen: list[tuple[tuple[int, int], Pose | None]] = []

        def estimate_labels(image: Image.Image, *, pose: Pose | None = None) -> np.ndarray:
            seen.append((image.size, pose))
            return np.full((image.height, image.width), 4, np.uint8)

        monkeypatch.setattr(styletryon, "estimate_labels", estimate_labels, raising=False)
        options = ["--size", "64x48", "--background", "keep", "--keep-side"]
        assert cli.main(["prepare", str(photos), str(tmp_path / "out"), *options]) == 0
        assert [size for size, _ in seen] == [(48, 64)] * 3
        assert all(pose is not None and pose.size == (64, 48) for _, pose in seen)


class TestInfo:
    def test_says_what_a_report_needs(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert cli.main(["info"]) == 0
        shown = capsys.readouterr().out
        for word in ("styletryon", "python", "torch", "cuda", "ops", "weights 'default'"):
            assert word in shown

    def test_says_how_the_ops_run_and_why(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setenv("STYLETRYON_OPS", "reference")
        monkeypatch.setenv("STYLETRYON_CACHE", str(tmp_path))
        (tmp_path / "ops").mkdir()
        (tmp_path / "ops" / "kept.bin").write_bytes(b"123")
        assert cli.main(["info"]) == 0
        rows = dict(line.strip().split("  ", 1) for line in capsys.readouterr().out.splitlines())
        assert rows["ops"].strip() == "reference (asked for: reference, by STYLETRYON_OPS)"
        assert rows["because"].strip() == "plain PyTorch was asked for"
        assert rows["cache"].strip() == f"{tmp_path / 'ops'} (1 compiled, 3 bytes)"
        assert "STYLETRYON_OPS=" in rows["to force"]
        assert rows["nvrtc"].strip()
        assert rows["device"].strip()


def test_interrupt_ends_with_130(
    pictures: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(styletryon, "try_on", interrupted)
    person, garment = str(pictures / "person.png"), str(pictures / "garment.png")
    assert cli.main(["try-on", person, garment, "-o", str(pictures / "c.png")]) == 130
    captured = capsys.readouterr()
    assert captured.err.startswith("styletryon try-on: stopped")
    assert captured.err.count("\n") == 1


def test_ctrl_c_in_a_process_of_its_own(model: str, tmp_path: Path) -> None:
    # In the middle of the work: as soon as there is progress to show.
    script = (
        "import os, signal, sys; from styletryon.cli import _common, main\n"
        # A shell that starts something in the background makes all its children ignore the interrupt.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "_common.Stages.__call__ = lambda self, stage, *_: stage == 'loading' or os.kill(os.getpid(), signal.SIGINT)\n"
        f"sys.exit(main(['evaluate', '--pairs', '50', '--batch-size', '1', '--methods', 'noop', '--model', {model!r}]))"
    )
    result = run_python("-c", script, folder=tmp_path)
    assert result.returncode == 130, result.stderr
    assert result.stderr.count("\n") == 1
    assert "stopped" in result.stderr


def test_module_is_the_command(tmp_path: Path) -> None:
    result = run_python("-W", "error", "-m", "styletryon", "try-on", "a.png", "b.png", "-o", "c.png", folder=tmp_path)
    assert result.returncode == 2
    assert result.stderr.startswith("styletryon try-on: ")
    assert list(tmp_path.iterdir()) == []
    assert "main" in (ROOT / "pyproject.toml").read_text()


def test_a_reader_that_leaves_early_is_no_error(tmp_path: Path) -> None:
    script = f"{sys.executable} -m styletryon info | true"
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    result = subprocess.run(
        ["bash", "-o", "pipefail", "-c", script],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=900, check=False,
    )  # fmt: skip
    assert result.returncode == 0
    assert result.stderr == ""
