"""Latents: a batch of people as a value, saved and loaded."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from styletryon.errors import CheckpointError, CheckpointNotFoundError, SaveError, ShapeError
from styletryon.generator import GeneratorOutput
from styletryon.latent import EDITABLE, Latent, stack
from styletryon.photo import Frame, Photograph
from styletryon.pose import Pose

SIZE = (32, 24)


def some_latent(
    batch: int = 2,
    *,
    noise: bool = True,
    photograph: bool = True,
    anchor: bool = True,
    seed: int = 0,
    model: str = "tiny",
) -> Latent:
    generator = torch.Generator().manual_seed(seed)
    frame = Frame((0.0, 0.0, 24.0, 32.0), SIZE, SIZE)
    return Latent(
        styles=tuple(torch.randn(batch, channels, generator=generator) for channels in (8, 6, 4)),
        pose=Pose(torch.rand(batch, 17, 3, generator=generator), SIZE),
        noise=tuple(torch.randn(batch, 1, side, side, generator=generator) for side in (4, 8)) if noise else None,
        photograph=tuple(Photograph(Image.new("RGB", (24, 32)), frame) for _ in range(batch)) if photograph else None,
        report={"steps": 40, "error": 0.125},
        model=model,
        anchor=tuple(torch.randn(batch, channels, generator=generator) for channels in (8, 6, 4)) if anchor else None,
    )


def same(first: Latent, second: Latent) -> bool:
    """Whether all that is saved agrees."""
    pairs = [*zip(first.styles, second.styles, strict=True), (first.pose.keypoints, second.pose.keypoints)]
    pairs += list(zip(first.noise or (), second.noise or (), strict=True))
    pairs += list(zip(first.anchor or (), second.anchor or (), strict=True))
    plain = first.pose.size == second.pose.size and first.model == second.model and first.report == second.report
    return plain and all(torch.equal(one, other) and one.dtype == other.dtype for one, other in pairs)


def test_a_latent_is_a_batch() -> None:
    latent = some_latent(3)
    assert len(latent) == 3
    for index in (0, 2, -1, -3):
        one = latent[index]
        assert len(one) == 1
        assert torch.equal(one.styles[1][0], latent.styles[1][index])
        assert torch.equal(one.pose.keypoints[0], latent.pose.keypoints[index])
        assert torch.equal(one.noise[0][0], latent.noise[0][index])
        assert one.photograph == (latent.photograph[index],)
    assert len(latent[1:]) == 2
    assert len(latent[5:]) == 0
    assert latent.device.type == "cpu"
    with pytest.raises(AttributeError):
        latent.model = "other"


@pytest.mark.parametrize("index", [3, -4])
def test_an_index_outside_is_an_error(index: int) -> None:
    with pytest.raises(IndexError, match="index: expected a person among 3"):
        some_latent(3)[index]


def test_iteration_ends() -> None:
    assert [len(one) for one in some_latent(3)] == [1, 1, 1]


def test_parts_stacked_are_the_whole() -> None:
    latent = some_latent(3)
    again = stack(list(latent))
    assert same(latent[:], replace(again, report=latent.report))
    assert again.photograph == latent.photograph


def test_stack_gives_those_without_an_anchor_their_own_styles() -> None:
    first, second = some_latent(2), some_latent(1, anchor=False, seed=1)
    joined = stack([first, second])
    assert joined.anchor is not None
    assert torch.equal(joined.anchor[1], torch.cat([first.anchor[1], second.styles[1]]))  # type: ignore[index]
    assert stack([second, second]).anchor is None


def test_stack_keeps_the_photographs_of_those_who_have_one() -> None:
    first = some_latent(1)
    joined = stack([first, some_latent(2, photograph=False)])
    assert len(joined) == 3
    assert joined.noise is not None
    assert joined.photograph == (*(first.photograph or ()), None, None)
    assert stack([some_latent(1, photograph=False)] * 2).photograph is None


def test_stack_keeps_no_noise_where_none_has_any() -> None:
    assert stack([some_latent(1, noise=False), some_latent(2, noise=False)]).noise is None


@pytest.mark.parametrize("noisy", [(True, False), (False, True, True)])
def test_stack_does_not_drop_the_noise_of_some(noisy: tuple[bool, ...]) -> None:
    found = rf"latents: expected noise maps in all or in none, got {sum(noisy)} of {len(noisy)}"
    with pytest.raises(ShapeError, match=found):
        stack([some_latent(1, noise=noise) for noise in noisy])


def test_stack_refuses() -> None:
    with pytest.raises(ShapeError, match="latents: expected at least one"):
        stack([])
    with pytest.raises(ShapeError, match="latents: expected latents of one generator"):
        stack([some_latent(), some_latent(model="other")])
    latent = some_latent()
    with pytest.raises(ShapeError, match="latents: expected latents of one generator and picture size"):
        stack([latent, Latent(latent.styles, latent.pose.resized((64, 48)), model="tiny")])
    for styles in (latent.styles[:2], tuple(style[:, :3] for style in latent.styles)):
        with pytest.raises(ShapeError, match="latents: expected styles of one generator"):
            stack([latent, Latent(styles, latent.pose, model="tiny")])


def test_groups_must_agree_with_the_pose() -> None:
    latent = some_latent(2)
    with pytest.raises(ShapeError, match=r"styles\[0\]: expected a batch of 1, one per pose, got shape \(2, 8\)"):
        Latent(latent.styles, latent.pose[0])
    with pytest.raises(ShapeError, match=r"noise\[1\]: expected a batch of 2"):
        Latent(latent.styles, latent.pose, (latent.noise[0], latent.noise[1][:1]))
    with pytest.raises(ShapeError, match="photograph: expected 2 entries, one per pose, got 1"):
        Latent(latent.styles, latent.pose, photograph=(None,))
    with pytest.raises(ShapeError, match="styles: expected a tensor per styled layer, got none"):
        Latent((), latent.pose)


def test_another_pose_keeps_the_style_alone() -> None:
    latent, other = some_latent(2, anchor=False), some_latent(2, seed=1)
    posed = latent.with_pose(other.pose)
    assert posed.styles is latent.styles
    assert torch.equal(posed.pose.keypoints, other.pose.keypoints)
    assert posed.noise is None
    assert posed.photograph is None
    with pytest.raises(ShapeError):
        latent.with_pose(other.pose[0])


def test_another_pose_is_drawn_from_codes_drawn_to_the_anchor() -> None:
    latent = some_latent(2)
    posed = latent.with_pose(latent.pose)
    assert latent.anchor is not None
    for found, style, anchor in zip(posed.styles, latent.styles, latent.anchor, strict=True):
        torch.testing.assert_close(found, EDITABLE * style + (1 - EDITABLE) * anchor)
    assert posed.with_pose(latent.pose).styles is posed.styles  # and no farther the next time


def test_to_moves_every_tensor(device: torch.device) -> None:
    moved = some_latent().to(device)
    tensors = (*moved.styles, *(moved.noise or ()), moved.pose.keypoints)
    assert {tensor.device.type for tensor in tensors} == {device.type}
    assert same(moved.to("cpu"), some_latent())


# --------------------------------------------------------------------------------------------------- save and load


def known_photograph(seed: int, *, whole: bool = True) -> Photograph:
    """A photograph of noise, of which all is known, or nothing."""
    rng = np.random.default_rng(seed)
    picture = Image.fromarray(rng.integers(0, 256, (60, 50, 3), np.uint8))
    frame = Frame((-3.25, 1 / 3, 41.5, 60.1), (60, 50), SIZE)
    if not whole:
        return Photograph(picture, frame)
    pose = Pose(torch.from_numpy(rng.random((1, 17, 3))).float(), (60, 50))
    return Photograph(picture, frame, pose, rng.integers(0, 12, (60, 50), np.uint8), (1, 2, 3))


def same_photograph(one: Photograph | None, other: Photograph | None) -> bool:
    if one is None or other is None:
        return one is other
    labels = (one.labels is None) == (other.labels is None) and np.array_equal(one.labels, other.labels)  # type: ignore[arg-type]
    poses = one.pose is other.pose or (
        one.pose is not None and other.pose is not None
        and torch.equal(one.pose.keypoints, other.pose.keypoints) and one.pose.size == other.pose.size
    )  # fmt: skip
    pictures = one.picture.tobytes() == other.picture.tobytes() and one.picture.mode == other.picture.mode
    return labels and poses and pictures and (one.frame, one.background) == (other.frame, other.background)


def test_the_photograph_goes_with_its_latent(tmp_path: Path) -> None:
    photographs = (known_photograph(1), None, known_photograph(2, whole=False))
    latent = replace(some_latent(3, photograph=False), photograph=photographs)
    latent.save(tmp_path / "a.safetensors")
    loaded = Latent.load(tmp_path / "a.safetensors").photograph
    assert loaded is not None
    assert all(same_photograph(one, other) for one, other in zip(loaded, photographs, strict=True))
    assert not same_photograph(loaded[0], loaded[2])


def test_a_file_without_a_photograph_is_as_it_was_before_there_were_any(tmp_path: Path) -> None:
    some_latent().save(tmp_path / "a.safetensors", photograph=False)
    with safe_open(tmp_path / "a.safetensors", framework="pt") as file:
        assert set(file.metadata()) == {"format", "model", "size", "report"}
        names = {name.split(".")[0] for name in file.keys()}  # noqa: SIM118
    assert names == {"styles", "noise", "anchor", "keypoints"}
    assert Latent.load(tmp_path / "a.safetensors").photograph is None


@pytest.mark.parametrize("change", [b"PNG", b"IDAT"])
def test_a_damaged_photograph_is_told(tmp_path: Path, change: bytes) -> None:
    path = tmp_path / "a.safetensors"
    replace(some_latent(1, photograph=False), photograph=(known_photograph(1),)).save(path)
    path.write_bytes(path.read_bytes().replace(change, b"x" * len(change)))
    with pytest.raises(CheckpointError, match="damaged or no latent"):
        Latent.load(path)


@pytest.mark.parametrize("noise", [True, False])
def test_saved_and_loaded(tmp_path: Path, noise: bool) -> None:
    latent = some_latent(noise=noise)
    path = tmp_path / "new" / "person.safetensors"
    latent.save(path)
    loaded = Latent.load(str(path), device="cpu")
    assert same(loaded, latent)
    assert (loaded.noise is None) is not noise
    assert [item.name for item in path.parent.iterdir()] == [path.name]


def test_a_tuning_goes_with_the_latent(tmp_path: Path) -> None:
    tuning = {"blocks.0.weight": torch.randn(3, 2), "blocks.0.bias": torch.randn(())}
    latent = replace(some_latent(photograph=False), tuning=tuning)
    assert latent[0].tuning is tuning
    assert stack([latent[0], latent[1]]).tuning is tuning
    for other in (some_latent(photograph=False), replace(latent, tuning=dict(tuning))):
        with pytest.raises(ShapeError, match="latents: expected latents of one tuning"):
            stack([latent, other])
    assert latent.with_pose(latent.pose).tuning is None
    latent.save(tmp_path / "tuned.safetensors")
    loaded = Latent.load(tmp_path / "tuned.safetensors")
    assert same(latent, loaded)
    assert loaded.tuning is not None
    assert set(loaded.tuning) == set(tuning)
    assert all(torch.equal(loaded.tuning[name], change) for name, change in tuning.items())
    assert set(loaded.to("cpu").tuning or {}) == set(tuning)


def test_parts_of_a_batch_that_share_memory_can_be_saved(tmp_path: Path) -> None:
    latent = some_latent(3)
    shared = Latent((latent.styles[0], latent.styles[0]), latent.pose)[1]
    shared.save(tmp_path / "part")
    assert same(Latent.load(tmp_path / "part"), shared)


def test_the_old_name_of_photographs_still_works() -> None:
    latent = some_latent(1)
    with pytest.warns(DeprecationWarning, match=r"Latent\.source is now photograph; .* leaves in styletryon 0\.4"):
        assert latent.source is latent.photograph
    with pytest.warns(DeprecationWarning, match=r"Latent\(source=\) is now photograph"):
        assert replace(latent, source=None).photograph is None  # type: ignore[call-arg]
    with pytest.warns(DeprecationWarning, match=r"Latent\(source=\) is now photograph"):
        made = Latent(latent.styles, latent.pose, source=latent.photograph)  # type: ignore[call-arg]
    assert made.photograph is latent.photograph


def test_tensors_that_need_gradients_and_numpy_numbers(tmp_path: Path) -> None:
    latent = some_latent(1)
    graph = Latent(
        tuple(style.requires_grad_() for style in latent.styles), latent.pose, report={"error": np.float32(0.5)}
    )
    graph.save(tmp_path / "a.safetensors")
    loaded = Latent.load(tmp_path / "a.safetensors")
    assert not loaded.styles[0].requires_grad
    assert loaded.report == {"error": 0.5}


def test_saving_over_an_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.safetensors"
    some_latent(seed=1).save(path)
    some_latent(seed=2).save(path)
    assert same(Latent.load(path), some_latent(seed=2))

    def half(tensors: object, target: Path, metadata: object) -> None:
        Path(target).write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr("styletryon.latent.save_file", half)
    with pytest.raises(SaveError, match=r"path: cannot write .*disk full"):
        some_latent(seed=3).save(path)
    assert same(Latent.load(path), some_latent(seed=2))
    assert list(tmp_path.iterdir()) == [path]


def test_what_cannot_be_saved(tmp_path: Path) -> None:
    with pytest.raises(SaveError, match="got the folder"):
        some_latent().save(tmp_path)
    latent = some_latent(1)
    strange = Latent(latent.styles, latent.pose, report={"error": object()})
    with pytest.raises(SaveError, match="report: expected plain numbers"):
        strange.save(tmp_path / "a")
    assert not list(tmp_path.iterdir())


def test_what_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(CheckpointNotFoundError, match=r"path: .*no such file") as caught:
        Latent.load(tmp_path / "missing.safetensors")
    assert isinstance(caught.value, FileNotFoundError)
    with pytest.raises(CheckpointNotFoundError):
        Latent.load(tmp_path)


def test_damaged_files(tmp_path: Path, rng: np.random.Generator) -> None:
    path = tmp_path / "a.safetensors"
    some_latent().save(path)
    data = path.read_bytes()
    for cut in (0, 1, 7, 8, 60, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:cut])
        with pytest.raises(CheckpointError, match="damaged or no latent"):
            Latent.load(path)
    for _ in range(200):
        changed = bytearray(data)
        changed[rng.integers(0, 800)] ^= 1 << int(rng.integers(0, 8))
        path.write_bytes(changed)
        try:
            Latent.load(path)
        except CheckpointError:
            continue


def test_files_of_another_kind(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_file({"weight": torch.zeros(2)}, path)
    with pytest.raises(CheckpointError, match=r"expected a latent of format 'styletryon\.latent/1', got None"):
        Latent.load(path)
    some_latent().save(path, photograph=False)
    tensors = load_file(path)
    metadata = {"format": "styletryon.latent/1", "model": "", "size": json.dumps(SIZE), "report": "{}"}
    for change, said in (
        ({"keypoints": torch.zeros(2, 16, 3)}, "damaged or no latent .PoseError"),
        ({"styles.1": torch.zeros(3, 6)}, "damaged or no latent .ShapeError"),
        ({"strange": torch.zeros(1)}, "holds unknown tensors: strange"),
        ({"styles.9": torch.zeros(2, 1)}, "damaged or no latent .KeyError"),
    ):
        save_file({**tensors, **change}, path, metadata)
        with pytest.raises(CheckpointError, match=said):
            Latent.load(path)
    save_file(tensors, path, {**metadata, "size": "[32]"})
    with pytest.raises(CheckpointError, match="damaged or no latent"):
        Latent.load(path)


# ------------------------------------------------------------------------------------------------------- a drawing


def test_a_drawing_reads_its_logits() -> None:
    logits = torch.randn(2, 12, 4, 3, generator=torch.Generator().manual_seed(0)).half().requires_grad_()
    drawing = GeneratorOutput(torch.zeros(2, 3, 4, 3), logits)
    assert drawing.probabilities.dtype == torch.float32
    assert torch.allclose(drawing.probabilities.sum(1), torch.ones(2, 4, 3))
    assert drawing.probabilities.requires_grad
    assert drawing.labels.dtype == torch.uint8
    assert torch.equal(drawing.labels.long(), drawing.probabilities.argmax(1))
    assert drawing.activations is None
