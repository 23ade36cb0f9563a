"""The benchmarks run, and say what they measure."""

from __future__ import annotations

import pytest
import torch

from styletryon.data.paperdoll import write_dataset
from tests._support.tiny import tiny_generator
from tests.benchmarks import encoder, generator, interop, kill_resume, ops, peers, projection, training_step, tryon_step


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


def test_a_killed_training_is_compared(capsys):
    kill_resume.main(["--kills", "1", "--processes", "1", "--steps", "8"])
    assert "no difference" in capsys.readouterr().out


def test_ratios_are_of_the_same_rounds():
    assert peers.ratio([1.0, 2.0, 4.0], [2.0, 2.0, 12.0]).split() == ["2.00x", "2.00x"]


def test_a_folder_that_is_no_peer_is_refused(tmp_path):
    with pytest.raises(SystemExit, match="--peer"):
        generator.main(["--quick", "--peer", str(tmp_path)])


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
        ("encoder", "w+", "0"), ("encoder", "w+", "2"), ("mean", "w+", "0"), ("mean", "w+", "2"),
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
