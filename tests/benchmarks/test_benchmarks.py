"""The benchmarks run, and say what they measure."""

from __future__ import annotations

import pytest

from tests.benchmarks import generator, kill_resume, ops, peers, training_step, tryon_step


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
