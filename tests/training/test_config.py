"""Settings as files and with changes."""

from __future__ import annotations

from pathlib import Path

import pytest

from styletryon.errors import ConfigError, SaveError
from styletryon.training import PRESETS, TrainingConfig, preset


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_a_file_holds_all_settings(name: str, tmp_path: Path) -> None:
    preset(name).save(tmp_path / "new" / "settings.json")
    assert TrainingConfig.load(tmp_path / "new" / "settings.json") == preset(name)


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="config: expected a JSON file of settings"):
        TrainingConfig.load(tmp_path / "none.json")
    for text, fault in (("{", "JSON file"), ("[]", "JSON object"), ('{"stranger": 1}', "stranger"), ("{}", "to_dict")):
        (tmp_path / "settings.json").write_text(text)
        with pytest.raises(ConfigError, match=fault):
            TrainingConfig.load(tmp_path / "settings.json")
    with pytest.raises(SaveError):
        preset("tiny").save(tmp_path)


def test_changes_reach_every_part() -> None:
    changed = preset("tiny").changed(
        **{"batch_size": 8, "generator.w_dim": 32, "stages.1.learning_rate": 0.5, "generator.channels": [8, 8, 8, 8]}
    )
    assert changed.batch_size == 8
    assert changed.generator.w_dim == 32
    assert changed.generator.channels == (8, 8, 8, 8)
    assert [stage.learning_rate for stage in changed.stages] == [2e-3, 0.5, 4e-4]
    assert preset("tiny").changed() == preset("tiny")


@pytest.mark.parametrize(
    ("name", "value", "fault"),
    [
        ("batchsize", 8, "expected one of .*batch_size"),
        ("stages.7.decay", 0.5, "expected a number below 3"),
        ("stages.first.decay", 0.5, "expected a number below 3"),
        ("seed.more", 1, "nothing below a plain value"),
        ("generator.w_dim", "wide", "expected int"),
        ("tryons", 2.0, "share in"),
    ],
)
def test_changes_that_make_no_sense(name: str, value: object, fault: str) -> None:
    with pytest.raises(ConfigError, match=fault):
        preset("tiny").changed(**{name: value})


def test_stages_by_pictures() -> None:
    config = preset("tiny")  # 800, 900 and 300 pictures
    assert [config.stage_at(seen) for seen in (0, 799, 800, 1699, 1700, 1999, 2000, 9999)] == [0, 0, 1, 1, 2, 2, 2, 2]
    assert config.unit == 2
    assert config.changed(stages=[{"pictures": 100}]).unit == 1
