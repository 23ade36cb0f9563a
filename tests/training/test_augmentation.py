from __future__ import annotations

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from styletryon.errors import RangeError, ShapeError
from styletryon.pose import KEYPOINT_NAMES, keypoint_heatmaps
from styletryon.training.augmentation import Augmentation, augment, draw_change

SIZE = (64, 48)
NOTHING = Augmentation(flip=0)


def source(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def people(batch: int = 5, size: tuple[int, int] = SIZE) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    random = source(99)
    images = torch.rand(batch, 3, *size, generator=random) * 2 - 1
    labels = torch.randint(0, 12, (batch, *size), generator=random, dtype=torch.uint8)
    keypoints = torch.rand(batch, 17, 3, generator=random) * torch.tensor([size[1], size[0], 1.0])
    return images, labels, keypoints


def test_switched_off_it_changes_no_bit() -> None:
    images, labels, keypoints = people()
    results = augment(images, labels, keypoints, NOTHING, generator=source())
    for before, after in zip((images, labels, keypoints), results, strict=True):
        assert torch.equal(before, after)
        assert before.dtype == after.dtype


def test_flip_twice_is_the_identity() -> None:
    images, labels, keypoints = people()
    change = draw_change(len(images), Augmentation(flip=1), generator=source())
    assert torch.equal(change.images(change.images(images)), images)
    assert torch.equal(change.labels(change.labels(labels)), labels)
    twice = change.keypoints(change.keypoints(keypoints, SIZE), SIZE)
    torch.testing.assert_close(twice, keypoints)
    assert not torch.equal(change.images(images), images)


@pytest.mark.parametrize("part", ["eye", "ear", "shoulder", "elbow", "wrist", "hip", "knee", "ankle"])
def test_flip_swaps_left_and_right(part: str) -> None:
    images, labels, keypoints = people(1)
    left, right = (KEYPOINT_NAMES.index(f"{side}_{part}") for side in ("left", "right"))
    _, _, flipped = augment(images, labels, keypoints, Augmentation(flip=1), generator=source())
    mirrored_x = SIZE[1] - keypoints[0, right, 0]
    torch.testing.assert_close(flipped[0, left], torch.stack([mirrored_x, *keypoints[0, right, 1:]]))


def test_flip_moves_each_picture_or_not() -> None:
    images, labels, keypoints = people(64, (4, 3))
    results, _, _ = augment(images, labels, keypoints, Augmentation(flip=0.5), generator=source())
    kept = (results == images).flatten(1).all(1)
    mirrored = (results == images.flip(-1)).flatten(1).all(1)
    assert bool((kept ^ mirrored).all())
    assert 16 < int(mirrored.sum()) < 48


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 2**31), row=st.integers(20, 43), column=st.integers(16, 31))
def test_keypoint_follows_the_pixel_and_the_label(seed: int, row: int, column: int) -> None:
    """The tests' one bright pixel is three wide, so that a shrunken nearest neighbour cannot miss its label."""
    images, labels = torch.full((1, 3, *SIZE), -1.0), torch.zeros(1, *SIZE, dtype=torch.uint8)
    images[:, :, row - 1 : row + 2, column - 1 : column + 2] = 0.0
    images[:, :, row, column] = 1.0
    labels[:, row - 1 : row + 2, column - 1 : column + 2] = 4
    keypoints = torch.zeros(1, 17, 3)
    keypoints[:, 0] = torch.tensor([column + 0.5, row + 0.5, 1.0])

    strong = Augmentation(flip=0.5, geometry=1, rotate=25, scale=0.2, shift=0.1)
    moved, moved_labels, moved_keypoints = augment(images, labels, keypoints, strong, generator=source(seed))

    heat = keypoint_heatmaps(moved_keypoints, SIZE, SIZE)[0, 0]
    x, y = moved_keypoints[0, 0, :2].tolist()
    assert divmod(int(heat.argmax()), SIZE[1]) == pytest.approx((y - 0.5, x - 0.5), abs=0.51)
    weight = (moved[0, 0] + 1).double()
    weight = weight / weight.sum()
    centre_y = (weight.sum(1) * (torch.arange(SIZE[0]) + 0.5)).sum()
    centre_x = (weight.sum(0) * (torch.arange(SIZE[1]) + 0.5)).sum()
    assert (float(centre_y), float(centre_x)) == pytest.approx((y, x), abs=0.15)
    marked = (moved_labels[0] == 4).nonzero().double().mean(0) + 0.5
    assert marked.tolist() == pytest.approx([y, x], abs=0.75)


def test_edges_fill_what_comes_into_sight() -> None:
    images, labels = torch.full((1, 3, *SIZE), 0.25), torch.full((1, *SIZE), 7, dtype=torch.uint8)
    change = draw_change(1, Augmentation(geometry=1, shift=0.5), generator=source())
    torch.testing.assert_close(change.images(images), images)
    assert torch.equal(change.labels(labels), labels)


def test_labels_stay_classes_of_their_own_dtype() -> None:
    _, labels, _ = people()
    labels = torch.where(labels > 5, 11, 0)
    moved = draw_change(5, Augmentation(geometry=1), generator=source()).labels(labels)
    assert moved.dtype == torch.int64
    assert set(moved.unique().tolist()) == {0, 11}


def test_a_missing_keypoint_stays_missing() -> None:
    images, labels, keypoints = people()
    keypoints[..., 2] = 0
    _, _, moved = augment(images, labels, keypoints, Augmentation(0.5, 1.0, 1.0), generator=source())
    assert not moved[..., 2].any()


def test_colour_leaves_labels_and_keypoints_and_the_range_alone() -> None:
    images, labels, keypoints = people()
    setting = Augmentation(flip=0, colour=1)
    coloured, same_labels, same_keypoints = augment(images, labels, keypoints, setting, generator=source())
    assert coloured.abs().max() <= 1
    assert not torch.equal(coloured, images)
    assert torch.equal(same_labels, labels)
    assert torch.equal(same_keypoints, keypoints)


def test_colour_by_hand() -> None:
    image = torch.tensor([0.5, 0.1, -0.2]).reshape(1, 3, 1, 1).expand(1, 3, 2, 2)
    change = draw_change(1, Augmentation(flip=0, colour=1), generator=source())
    grey = 0.299 * 0.5 + 0.587 * 0.1 + 0.114 * -0.2

    def recoloured(*colour: float) -> list[float]:
        one = dataclasses.replace(change, colour=torch.tensor([colour]))
        return one.recolour(image)[0, :, 0, 0].tolist()

    assert recoloured(0.0, 1.0, 1.0) == pytest.approx([0.5, 0.1, -0.2], abs=1e-6)
    assert recoloured(0.1, 1.0, 1.0) == pytest.approx([0.7, 0.3, 0.0], abs=1e-6)
    assert recoloured(0.0, 1.0, 0.0) == pytest.approx([grey] * 3, abs=1e-6)
    mean = (0.5 + 0.1 - 0.2) / 3
    assert recoloured(0.0, 0.5, 1.0) == pytest.approx([mean + (x - mean) / 2 for x in (0.5, 0.1, -0.2)], abs=1e-6)


def test_same_seed_same_result_and_the_global_source_is_left_alone(global_randomness_stays: None) -> None:
    everything = Augmentation(0.5, 0.5, 0.5)
    first = augment(*people(), everything, generator=source(3))
    second = augment(*people(), everything, generator=source(3))
    other = augment(*people(), everything, generator=source(4))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert not torch.equal(first[0], other[0])


def test_one_setting_does_not_change_the_draws_of_another() -> None:
    few = draw_change(8, Augmentation(flip=0.5), generator=source())
    many = draw_change(8, Augmentation(flip=0.5, geometry=1, colour=1), generator=source())
    assert torch.equal(few.flipped, many.flipped)


def test_gradients_reach_the_pictures() -> None:
    images, _, _ = people(2, (8, 6))
    images = images.double().requires_grad_()
    change = draw_change(2, Augmentation(0.5, 1.0, 1.0), generator=source())
    change.images(images).square().sum().backward()
    assert images.grad is not None
    assert bool(torch.isfinite(images.grad).all())
    assert bool(images.grad.any())


def test_maps_of_any_depth_move_along() -> None:
    _, labels, _ = people()
    change = draw_change(5, Augmentation(0.5, 0.5, 1.0), generator=source())
    one_hot = torch.nn.functional.one_hot(labels.long(), 12).permute(0, 3, 1, 2).float()
    assert change.move(one_hot).shape == one_hot.shape
    torch.testing.assert_close(change.move(one_hot).sum(1), torch.ones(5, *SIZE))


def test_half_precision_keeps_its_dtype() -> None:
    images, _, _ = people()
    change = draw_change(5, Augmentation(0.5, 1.0, 1.0), generator=source())
    assert change.images(images.bfloat16()).dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("name", "value"),
    [("flip", -0.1), ("geometry", 1.5), ("colour", float("nan")), ("rotate", -1.0), ("scale", 5.0), ("contrast", 2.0)],
)
def test_settings_out_of_range_are_named(name: str, value: float) -> None:
    with pytest.raises(RangeError, match=rf"{name}: expected a number in \[0"):
        Augmentation(**{name: value})


def test_shapes_that_do_not_fit_are_named() -> None:
    images, labels, keypoints = people()
    with pytest.raises(ShapeError, match=r"images: expected \(B, 3, H, W\)"):
        augment(images[0], labels, keypoints, NOTHING, generator=source())
    with pytest.raises(ShapeError, match="labels: expected"):
        augment(images, labels[:, :-1], keypoints, NOTHING, generator=source())
    with pytest.raises(ShapeError, match=r"keypoints: expected \(B, 17, 3\)"):
        augment(images, labels, keypoints[:, :5], NOTHING, generator=source())
    with pytest.raises(ShapeError, match="keypoints: expected 3 dimensions with 5 pictures"):
        augment(images, labels, keypoints[:2], NOTHING, generator=source())
