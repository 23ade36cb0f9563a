"""Models of the Hugging Face hub, with a stand-in for its package: there is no network in tests."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import styletryon
from styletryon.errors import CheckpointNotFoundError, DependencyError, WeightsUnavailableError
from styletryon.interop import fetch_model
from tests._support.tiny import tiny_generator


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """A hub with one repository; the calls that it gets."""
    tiny_generator().save_pretrained(tmp_path / "snapshot")
    calls: list[dict[str, Any]] = []

    def snapshot_download(repository: str, **options: Any) -> str:
        calls.append({"repository": repository, **options})
        if repository != "anna/dresses":
            raise ConnectionError("404")
        return str(tmp_path / "snapshot")

    install(monkeypatch, snapshot_download)
    return calls


def install(monkeypatch: pytest.MonkeyPatch, download: Callable[..., str]) -> None:
    package = types.ModuleType("huggingface_hub")
    package.snapshot_download = download  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "huggingface_hub", package)


@pytest.mark.parametrize(
    ("name", "revision"),
    [("anna/dresses", None), ("anna/dresses@v1.0", "v1.0"), ("anna/dresses@refs/pr/1", "refs/pr/1")],
)
def test_a_model_of_the_hub(name: str, revision: str | None, hub: list[dict[str, Any]]) -> None:
    model = styletryon.load_model(name)
    assert model.fingerprint == tiny_generator().fingerprint
    wanted = {"repository": "anna/dresses", "revision": revision, "repo_type": "model"}
    assert hub == [{**wanted, "allow_patterns": ["config.json", "model.safetensors"]}]
    assert styletryon.load_model(name) is model


def test_a_model_that_cannot_be_had(hub: list[dict[str, Any]]) -> None:
    with pytest.raises(WeightsUnavailableError, match=r"'ben/coats' cannot be had .* \(ConnectionError: 404\)"):
        styletryon.load_model("ben/coats")
    assert len(hub) == 1


def test_a_folder_here_comes_first(
    hub: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    tiny_generator(seed=3).save_pretrained("anna/dresses")
    assert styletryon.load_model("anna/dresses").fingerprint == tiny_generator(seed=3).fingerprint
    assert not hub


@pytest.mark.parametrize("source", ["nowhere", "a/b/c", "./a/b", "/tmp/nothing-here", "../x", Path("anna/dresses")])
def test_paths_are_not_looked_for_on_the_hub(source: str | Path, hub: list[dict[str, Any]]) -> None:
    with pytest.raises(CheckpointNotFoundError):
        styletryon.load_model(source)
    assert not hub


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)  # what an import of a missing module meets
    with pytest.raises(DependencyError, match=r"pip install 'styletryon\[hub\]'"):
        styletryon.load_model("anna/dresses")


def test_a_repository_without_a_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, lambda *_, **__: str(tmp_path))
    with pytest.raises(CheckpointNotFoundError, match=r"a folder without config\.json"):
        styletryon.load_model("anna/empty")


@pytest.mark.parametrize("name", ["anna", "anna/dresses@", "anna/dresses@v 1", "https://anna/dresses"])
def test_what_is_no_name(name: str) -> None:
    with pytest.raises(WeightsUnavailableError, match="expected 'user/name'"):
        fetch_model(name)
