"""The benchmarks run, and say what they measure."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from styletryon.data import paperdoll
from styletryon.data.paperdoll import write_dataset
from styletryon.features import VGG16Features
from tests._support.tiny import tiny_generator
from tests.benchmarks import (
    batch_kill,
    encoder,
    features,
    generator,
    interop,
    kill_resume,
    models,
    ops,
    peers,
    projection,
    shown,
    training_step,
    tryon_step,
    tuning,
)


@pytest.mark.parametrize(
    ("benchmark", "arguments", "expected"),
    [
        (generator, ["--precision", "fp32", "bf16"], ("drawing, batch 4", "drawing and gradient", "picture alone")),
        (training_step, [], ("training step, batch 4", "ours bf16")),
        (tryon_step, [], ("projection step", "try-on step")),
        (ops, ["--batch", "2"], ("styled layer up=2", "frozen", "downsample2d", "the obvious way")),
    ],
)
def test_runs(benchmark, arguments, expected, capsys):
    benchmark.main(["--quick", "--threads", "1", *arguments])
    printed = capsys.readouterr().out
    for text in expected:
        assert text in printed


@pytest.mark.slow
def test_generators_of_two_sizes_are_compared(capsys):
    models.main(["default", "--count", "1", "--preset", "fast"])
    cells = capsys.readouterr().out.strip().splitlines()[-1].split("|")
    large, small, sharp = map(float, cells[3:6])
    assert 12 < large < small < 30
    assert 0.1 < sharp < 1


@pytest.mark.slow
def test_a_killed_training_is_compared(capsys):
    kill_resume.main(["--kills", "1", "--processes", "1", "--steps", "8"])
    assert "no difference" in capsys.readouterr().out


def test_ratios_are_of_the_same_rounds():
    assert peers.ratio([1.0, 2.0, 4.0], [2.0, 2.0, 12.0]).split() == ["2.00x", "2.00x"]


def test_a_folder_that_is_no_peer_is_refused(tmp_path):
    with pytest.raises(SystemExit, match="--peer"):
        generator.main(["--quick", "--peer", str(tmp_path)])


def test_vgg_is_read_from_a_file_or_left_out_with_a_word(tmp_path, capsys):
    assert features.vgg_row(None) == {}
    assert "VGG-16 is left out: pass its weights" in capsys.readouterr().out
    made = VGG16Features(weights=None)
    path = tmp_path / "vgg.safetensors"
    save_file({f"features.{key}": value for key, value in made.network.state_dict().items()}, path)
    images = torch.rand(1, 3, 16, 16) * 2 - 1
    for read, expected in zip(features.vgg_row(path)["VGG-16"](images), made(images), strict=True):
        assert torch.equal(read, expected)


def test_widths_are_those_of_stylegan2():
    assert peers.widths(256, 16384, 512) == (512, 512, 512, 512, 256, 128, 64)


def test_the_comparison_moves_every_number_but_filters():
    network = torch.nn.BatchNorm2d(3)
    network.register_buffer("resample_filter", torch.ones(4))
    before = {name: tensor.clone() for name, tensor in network.state_dict().items() if tensor.is_floating_point()}
    network.num_batches_tracked = None
    interop.perturb(network, seed=0)
    kept = [name for name, tensor in before.items() if torch.equal(tensor, network.state_dict()[name])]
    assert kept == ["resample_filter"]


def test_every_case_of_the_comparison_can_be_built():
    assert {kind for kind, _ in interop.CASES.values()} == set(interop.BUILDERS)


@pytest.fixture
def model(tmp_path):
    tiny_generator().save_pretrained(tmp_path / "model")
    return str(tmp_path / "model")


def test_projection_compares_both_starts(model, capsys):
    projection.main(["--model", model, "--figures", "2", "--steps", "0,2"])
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[2:]]
    assert [(row[0], row[1], row[4]) for row in rows] == [
        ("encoder", "s", "0"), ("encoder", "s", "2"), ("mean", "s", "0"), ("mean", "s", "2"),
    ]  # fmt: skip
    assert all(float(number) > 0 for row in rows for number in row[5:8])


def test_an_encoder_is_held_against_the_models(model, tmp_path, capsys):
    write_dataset(tmp_path / "data", 8, size=(32, 24))
    options = ["--model", model, "--pictures", "16", "--rows", "2", "--figures", "2"]
    encoder.main([str(tmp_path / "data"), *options])
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[2:]]
    assert [row[:2] for row in rows[:3]] == [["fresh", "0"], ["fresh", "8"], ["fresh", "16"]]
    assert [" ".join(row[:2]) for row in rows[3:]] == ["the model's", "mean latent"]
    encoder.main([str(tmp_path / "data"), *options, "--continue"])
    continued = capsys.readouterr().out.splitlines()[2:]
    assert continued[0].split()[3:] == continued[3].split()[2:]  # it begins as the model's own


@pytest.fixture
def photographs(tmp_path):
    """A folder of two figures as photographs, and of one picture that shows nobody."""
    folder = tmp_path / "photographs"
    for part in ("images", "labels"):
        (folder / part).mkdir(parents=True)
    figures = {name: paperdoll.render(paperdoll.sample_figure(seed), (256, 192)) for name, seed in (("a", 3), ("b", 4))}
    for name, figure in figures.items():
        Image.fromarray(figure.image).save(folder / "images" / f"{name}.jpg")
        Image.fromarray(figure.labels).save(folder / "labels" / f"{name}.png")
    Image.fromarray(np.full((256, 192, 3), 200, np.uint8)).save(folder / "images" / "c.jpg")
    (folder / "split.json").write_text(json.dumps({"train": [], "val": ["c", "b", "a"]}))
    return folder


def test_the_tuning_of_photographs_goes_on_where_it_stopped(model, photographs, tmp_path, capsys):
    out, sheets = tmp_path / "rows.jsonl", tmp_path / "sheets"
    options = ["--photos", str(photographs), "--out", str(out), "--model", model, "--preset", "fast", "--steps", "12"]
    tuning.main([*options, "--count", "1", "--sheets", str(sheets)])
    assert "1 photographs, 0 that could not be projected" in capsys.readouterr().out
    first = out.read_text()
    with Image.open(sheets / "a.png") as sheet:
        assert sheet.size == (4 * 24, 32)
    out.write_text(first + '{"name": "b", "encod')  # a kill in the middle of a line
    tuning.main(options)
    printed = capsys.readouterr().out
    assert "2 photographs, 1 that could not be projected" in printed
    assert not any(line.startswith("a {") for line in printed.splitlines())
    assert out.read_text().startswith(first)
    rows = {row["name"]: row for row in map(json.loads, out.read_text().splitlines())}
    assert set(rows) == {"a", "b", "c"}
    assert "nobody" in rows["c"]["error"] or "person" in rows["c"]["error"]
    for row in (rows["a"], rows["b"]):
        assert row["encoder_psnr"] < row["optimised_psnr"] < row["tuned_psnr"]
        assert row["elsewhere"] > 0
    tuning.main(options)
    again = capsys.readouterr().out.splitlines()
    assert again == printed.splitlines()[-len(again) :]
    with pytest.raises(SystemExit, match="--out: expected rows of this model and these settings"):
        tuning.main([*options, "--steps", "4"])


def test_the_table_of_the_tuning_states_mean_and_standard_error():
    keys = [f"{stage}_{measure}" for stage in tuning.STAGES for measure in ("psnr", "apart", "deep")]
    rows = [dict.fromkeys([*keys, "elsewhere", "cpu_s", "seconds"], value) for value in (29.0, 31.0, 33.0)]
    lines = tuning.table([*rows, {"name": "x", "error": "nobody"}]).splitlines()
    assert lines[0] == "3 photographs, 1 that could not be projected"
    assert lines[4].split()[:4] == ["tuned", "31.00", "±", "1.15"]  # 2 / sqrt(3)
    assert lines[5] == "at least 30 dB when tuned: 2"
    assert tuning.table([{"name": "x", "error": "nobody"}]) == "0 photographs, 1 that could not be projected"


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ((50.0, 2.6772, -79.7751), (50.0, 0.0, -82.7485), 2.0425),
        ((50.0, -1.3802, -84.2814), (50.0, 0.0, -82.7485), 1.0),
        ((50.0, 2.5, 0.0), (73.0, 25.0, -18.0), 27.1492),
        ((60.2574, -34.0099, 36.2677), (60.4626, -34.1751, 39.4387), 1.2644),
        ((22.7233, 20.0904, -46.694), (23.0331, 14.973, -42.5619), 2.0373),
    ],
)
def test_colour_differences_are_those_of_sharma_wu_and_dalal(one, other, expected):
    found = shown.ciede2000(np.array([one]), np.array([other]))
    assert found[0] == pytest.approx(expected, abs=1e-4)


def test_the_same_colours_do_not_differ_and_a_smeared_change_is_a_blot():
    rng = np.random.default_rng(0)
    cloth = rng.integers(0, 256, (80, 80, 3), np.uint8)
    assert shown.colour(cloth.reshape(-1, 3), cloth.reshape(-1, 3)) == 0
    kinds = np.zeros((80, 80), np.uint8)
    kinds[20:60, 20:60] = 4  # Shows.CLOTH
    smeared = cloth.copy()
    smeared[kinds == 4] = 127
    worn = np.ones((80, 80), bool)
    assert shown.blot(cloth, cloth, cloth, kinds, kinds == 4, worn) == 0
    assert shown.blot(cloth, smeared, cloth, kinds, kinds == 4, worn) > 0.4


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["local", "ray"])
def test_batches_are_killed_in_the_middle(engine: str, capsys: pytest.CaptureFixture[str]) -> None:
    if engine == "ray":
        pytest.importorskip("ray", reason="the extra 'ray' is not installed")
    size = ["--rows", "12", "--bad", "2", "--people", "4", "--kills", "2", "--batch-size", "2"]
    batch_kill.main(["--engine", engine, *size])
    said = capsys.readouterr().out
    assert said.count("\nkilled ") == 2
    assert ("killed a worker" in said) == (engine == "ray")
    assert "\n10 done, 2 failed, 0 waiting\n" in said
    assert said.endswith("no finished picture written again\n")
