"""The estimators of pose and labels: the bundled network, and the adapter of Keypoint R-CNN."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F

import styletryon
from styletryon.data import paperdoll
from styletryon.errors import (
    CheckpointError,
    CheckpointNotFoundError,
    ConfigError,
    ImageError,
    PersonNotFoundError,
    PoseError,
    RangeError,
    ShapeError,
    WeightsUnavailableError,
)
from styletryon.labels import Label
from styletryon.pose import (
    FLIP_ORDER,
    BodyConfig,
    BodyEstimator,
    BodyMaps,
    BodyNetwork,
    KeypointRCNNEstimator,
    Pose,
    PoseEstimator,
    load_body_network,
)
from styletryon.pose._labelling import between, coherent, guided_coefficients, person_box, spread
from styletryon.pose._photo import cut
from styletryon.pose.estimator import peaks
from styletryon.pose.trunk import TRUNK_WIDTHS, EfficientNetLite, ScaledConv
from styletryon.training.body.trainer import export
from tests._support.trunk import published

TINY = BodyConfig(
    size=(96, 64), context_width=8, attention_blocks=1, heads=2, pyramid_widths=(8, 8, 8), label_width=8
)


@pytest.fixture(scope="module")
def bundled() -> BodyEstimator:
    return BodyEstimator.from_pretrained()


@pytest.fixture(scope="module")
def figure() -> tuple[Image.Image, Tensor]:
    """An unseen rendered figure, as a picture and its keypoints."""
    picture = paperdoll.render(paperdoll.sample_figure(70_001), (256, 192))
    return Image.fromarray(np.asarray(picture.image)), torch.as_tensor(np.asarray(picture.keypoints))


def torso(points: Tensor) -> float:
    return float((points[5:7, :2].mean(0) - points[11:13, :2].mean(0)).norm())


def near(pose: Pose, truth: Tensor, share: float = 0.2) -> float:
    """PCK of one pose over the keypoints in the picture."""
    shown = truth[:, 2] >= 0.3
    distance = (pose.keypoints[0, :, :2] - truth[:, :2]).norm(dim=-1)
    return float((distance <= share * torso(truth))[shown].float().mean())


# The network


def test_the_trunk_gives_maps_at_five_strides() -> None:
    maps = EfficientNetLite()(torch.zeros(2, 3, 64, 96))
    strides = (2, 4, 8, 16, 32)
    widths = [(width, 64 // stride, 96 // stride) for width, stride in zip(TRUNK_WIDTHS, strides, strict=True)]
    assert [tuple(m.shape[1:]) for m in maps] == widths


@pytest.mark.parametrize("folded", [False, True])
def test_published_weights_are_convolutions_and_batch_normalisation(generator: torch.Generator, folded: bool) -> None:
    state = published(generator)
    trunk = EfficientNetLite(folded=folded).eval()
    trunk.load_imagenet(state)

    def layer(x: Tensor, conv: str, norm: str, stride: int = 1, grouped: bool = False, rectify: bool = True) -> Tensor:
        kernel = state[f"{conv}.weight"].shape[-1]
        missing = kernel - stride if x.shape[-1] % stride == 0 else kernel - x.shape[-1] % stride
        x = F.pad(x, (missing // 2, missing - missing // 2) * 2)  # TensorFlow's "same"
        x = F.conv2d(x, state[f"{conv}.weight"], stride=stride, groups=x.shape[1] if grouped else 1)
        parts = [state[f"{norm}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")]
        x = F.batch_norm(x, *parts, eps=1e-3)
        return x.clamp(0, 6) if rectify else x

    images = torch.rand(1, 3, 64, 64, generator=generator) * 2 - 1
    x, number, maps = layer(images, "_conv_stem", "_bn0", stride=2), 0, []
    for repeats, first, kept in ((1, 1, 1), (2, 2, 1), (2, 2, 1), (3, 2, 0), (3, 1, 1), (4, 2, 0), (1, 1, 1)):
        for place in range(repeats):
            name, before = f"_blocks.{number}", x
            if f"{name}._expand_conv.weight" in state:
                x = layer(x, f"{name}._expand_conv", f"{name}._bn0")
            x = layer(x, f"{name}._depthwise_conv", f"{name}._bn1", stride=1 if place else first, grouped=True)
            x = layer(x, f"{name}._project_conv", f"{name}._bn2", rectify=False)
            x = x + before if place else x
            number += 1
        maps += [x] * kept
    for ours, theirs in zip(trunk(images), maps, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3 * float(theirs.abs().max()))


def test_other_weights_are_refused_by_the_trunk(generator: torch.Generator) -> None:
    state = published(generator)
    with pytest.raises(CheckpointError, match="trunk: expected the state dict of EfficientNet-Lite0"):
        EfficientNetLite().load_imagenet({name: value for name, value in state.items() if "_blocks.7." not in name})
    with pytest.raises(CheckpointError, match="trunk: expected the state dict of EfficientNet-Lite0"):
        EfficientNetLite().load_imagenet({**state, "_conv_stem.weight": torch.zeros(32, 3, 5, 5)})


def test_forward_shapes_and_other_sizes() -> None:
    network = BodyNetwork(TINY).eval()
    for size in ((64, 32), (96, 64)):
        logits, presence, labels = network(torch.zeros(2, 3, *size))
        assert logits.shape == (2, 17, size[0] // 4, size[1] // 4)
        assert presence.shape == (2, 17)
        assert labels.shape == (2, 12, size[0] // 2, size[1] // 2)


def test_network_refuses_wrong_shapes() -> None:
    network = BodyNetwork(TINY)
    for shape in ((1, 3, 80, 64), (3, 96, 64)):
        with pytest.raises(ShapeError, match=r"images: expected \(B, 3, H, W\) with multiples of 32, got"):
            network(torch.zeros(shape))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size": (96, 48)}, "size: expected two multiples of 32"),
        ({"pyramid_widths": (4, 8)}, "pyramid_widths: expected three positive numbers"),
        ({"label_width": 0}, "label_width: expected a positive number"),
        ({"heads": 7}, "heads: expected a divisor"),
    ],
)
def test_config_refuses_nonsense(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        BodyConfig.from_dict(changes)


def test_config_round_trip_and_unknown_settings() -> None:
    assert BodyConfig.from_dict(json.loads(json.dumps(TINY.to_dict()))) == TINY
    with pytest.raises(ConfigError, match="unknown colour"):
        BodyConfig.from_dict({"colour": 3})


def test_folding_changes_nothing(generator: torch.Generator) -> None:
    network = BodyNetwork(TINY)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(generator=generator)
            module.running_var.uniform_(0.5, 2, generator=generator)
            module.weight.data.uniform_(0.5, 2, generator=generator)
        elif isinstance(module, ScaledConv):
            module.gain.data.uniform_(0.5, 1.5, generator=generator)
    images = torch.rand(2, 3, 96, 64, generator=generator) * 2 - 1
    network.eval()
    folded = network.fold()
    assert folded.config.folded
    assert folded.fold() is folded
    for a, b in zip(network(images), folded(images), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


# The resampling and the peaks


def test_cut_is_exact_beyond_the_edges() -> None:
    rng = np.random.default_rng(0)
    photo = Image.fromarray(rng.integers(0, 256, (40, 30, 3), dtype=np.uint8))
    part = cut(photo, (-6.0, -8.0, 42.0, 56.0), (64, 48))  # one pixel is one pixel
    inside = torch.from_numpy(np.array(photo)).permute(2, 0, 1).float() / 127.5 - 1
    torch.testing.assert_close(part[:, 8:48, 6:36], inside)
    assert float((part[:, :8] - (128 / 127.5 - 1)).abs().max()) < 1e-6
    away = cut(photo, (100.0, 100.0, 148.0, 164.0), (64, 48))
    assert float(away.std()) == 0


@pytest.mark.parametrize("place", [(10.0, 12.0), (3.3, 17.8), (0.5, 0.5), (23.5, 31.5)])
def test_peaks_are_found_to_a_tenth_of_a_pixel(place: tuple[float, float]) -> None:
    columns, rows = torch.arange(24) + 0.5, torch.arange(32) + 0.5
    bump = torch.exp(-((columns - place[0]) ** 2)[None, :] / 2 - ((rows - place[1]) ** 2)[:, None] / 2)
    far = torch.zeros_like(bump)
    far[16, 12] = 0.4  # another person must not pull
    x, y, mass = peaks(torch.stack([torch.maximum(bump, far)]) / bump.sum())
    assert 0.3 < float(mass) < 1
    tolerance = 0.1 if 2 < place[0] < 22 else 1.0  # at the edge half of the bump is missing
    assert abs(float(x) - place[0]) < tolerance
    assert abs(float(y) - place[1]) < tolerance


# The bundled estimator


def test_bundled_weights_are_small_and_half_precision() -> None:
    folder = Path(str(styletryon.__path__[0])) / "weights"
    path = folder / "body.safetensors"
    assert path.stat().st_size <= 12_000_000
    assert {value.dtype for value in load_file(path).values()} == {torch.float16}
    assert (folder / "BODY.md").is_file()


def test_bundled_finds_a_rendered_figure(bundled: BodyEstimator, figure: tuple[Image.Image, Tensor]) -> None:
    image, truth = figure
    estimator: PoseEstimator = bundled
    pose = estimator(image)
    assert pose.size == (256, 192)
    assert pose.keypoints.shape == (1, 17, 3)
    assert pose.keypoints.dtype == torch.float32
    assert float(pose.keypoints[..., 2].min()) >= 0
    assert float(pose.keypoints[..., 2].max()) <= 1
    assert near(pose, truth) >= 0.8
    assert torch.equal(pose.keypoints, estimator(image).keypoints)


def test_bundled_follows_scale_place_and_mode(bundled: BodyEstimator, figure: tuple[Image.Image, Tensor]) -> None:
    image, truth = figure
    scene = Image.new("RGB", (900, 400), (150, 160, 170))
    scene.paste(image.resize((300, 400)), (500, 0))
    moved = truth.clone()
    moved[:, :2] *= 400 / 256
    moved[:, 0] += 500
    assert near(bundled(scene), moved) >= 0.7
    assert near(bundled(image.convert("RGBA")), truth) >= 0.8


def test_the_device_is_heeded(bundled: BodyEstimator, figure: tuple[Image.Image, Tensor]) -> None:
    image, _ = figure
    assert torch.equal(styletryon.estimate_pose(image, device="cpu").keypoints, bundled(image).keypoints)
    for call in (styletryon.estimate_pose, styletryon.estimate_labels):
        with pytest.raises(ConfigError, match="device: expected a device that this machine has"):
            call(image, device="nowhere")
    with pytest.raises(ConfigError, match="device: expected a device that this machine has"):
        BodyEstimator.from_pretrained(device="nowhere")


@pytest.mark.gpu
def test_a_gpu_finds_what_the_cpu_finds(bundled: BodyEstimator, figure: tuple[Image.Image, Tensor]) -> None:
    image, _ = figure
    pose, labels = BodyEstimator.from_pretrained(device="cuda").parse(image)
    assert pose.keypoints.device.type == "cpu"
    torch.testing.assert_close(pose.keypoints, bundled(image).keypoints, rtol=0, atol=0.5)
    assert (labels == bundled.parse(image)[1]).mean() > 0.99


def test_mirrored_picture_gives_the_mirrored_pose(
    bundled: BodyEstimator, figure: tuple[Image.Image, Tensor]
) -> None:
    image, _ = figure
    pose = bundled(image)
    mirrored = bundled(image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)).flipped()
    assert float((pose.keypoints - mirrored.keypoints).abs().amax(-1).median()) < 2


NOBODY = ["flat", "white", "black", "noise", "grey_noise", "gradient", "stripes", "tiny", "landscape"]


@pytest.mark.parametrize("kind", NOBODY)
def test_nobody_is_found_in_pictures_of_nobody(bundled: BodyEstimator, kind: str) -> None:
    rng = np.random.default_rng(1)
    array = np.full((320, 240, 3), 90, np.uint8)
    if kind == "white":
        array[:] = 255
    elif kind == "black":
        array[:] = 0
    elif kind == "noise":
        array = rng.integers(0, 256, array.shape, dtype=np.uint8)
    elif kind == "grey_noise":
        array[:] = rng.integers(0, 256, (320, 240, 1), dtype=np.uint8)
    elif kind == "gradient":
        array[:] = np.linspace(0, 255, 320)[:, None, None].astype(np.uint8)
    elif kind == "stripes":
        array[:, (np.arange(240) // 20) % 2 == 0] = 220
    elif kind == "tiny":
        array = array[:3, :2]
    elif kind == "landscape":
        array = np.full((300, 500, 3), (140, 180, 230), np.uint8)
        hills = 150 + 30 * np.sin(np.arange(500) / 60) + 10 * np.sin(np.arange(500) / 17)
        ground = np.arange(300)[:, None] > hills[None, :]
        array[ground] = (70, 120, 60)
        array = np.clip(array + rng.normal(0, 6, array.shape), 0, 255).astype(np.uint8)
    with pytest.raises(PersonNotFoundError, match="image: expected a photograph that shows a person, got a mean"):
        bundled(Image.fromarray(array))


def test_estimator_refuses_what_is_no_picture(bundled: BodyEstimator) -> None:
    with pytest.raises(ImageError, match="image: expected a PIL image, got ndarray"):
        bundled(np.zeros((4, 4, 3)))  # type: ignore[arg-type]
    with pytest.raises(RangeError, match="least_score: expected a finite number in"):
        BodyEstimator(BodyNetwork(TINY), least_score=1.5)
    assert issubclass(PersonNotFoundError, PoseError)


def test_untrained_network_runs_without_threshold() -> None:
    pose = BodyEstimator(BodyNetwork(TINY), least_score=0.0)(Image.new("RGB", (30, 90)))
    assert pose.size == (90, 30)
    assert bool(((pose.keypoints[0, :, 0] >= 0) & (pose.keypoints[0, :, 0] <= 30)).all())


# Labels, several people, boxes


class Painted(BodyNetwork):
    """Takes red for class 4, and its upper and its lower edge for the keypoints by turns."""

    def encode(self, images: Tensor) -> BodyMaps:
        return BodyMaps(images, images, images)

    def find(self, maps: BodyMaps) -> tuple[Tensor, Tensor]:
        lit = F.avg_pool2d((maps.f2[:, :1] > 0.1).float(), 4)
        upwards = torch.tensor([1.0 if (index + 1) // 2 % 2 else -1.0 for index in range(17)])  # alike on both sides
        rows = torch.arange(lit.shape[2]).float()
        there = torch.where(lit.sum((2, 3)) > 0, 4.0, -4.0)
        logits = (lit - 1) * 100 + 4 * upwards[None, :, None, None] * rows[:, None]
        return logits, there.expand(-1, 17)

    def parse(self, maps: BodyMaps) -> Tensor:
        red = F.avg_pool2d(maps.f2[:, :1], 2)
        shown = torch.where(red > 0.5, 10.0, -10.0)
        logits = shown.new_zeros(1).expand(len(red), 12, *red.shape[2:]).clone()
        logits[:, 0:1], logits[:, 4:5] = -shown, shown
        return logits


def painted_scene(left: int, top: int, right: int, bottom: int, size: tuple[int, int] = (300, 260)) -> Image.Image:
    array = np.full((*size, 3), 128, np.uint8)
    array[top:bottom, left:right, 0] = 255
    return Image.fromarray(array)


def spanning(left: float, top: float, right: float, bottom: float, size: tuple[int, int]) -> Pose:
    """A pose whose keypoints stand along the diagonal of a box."""
    t = torch.linspace(0, 1, 17)
    points = torch.stack([left + t * (right - left), top + t * (bottom - top), torch.ones(17)], -1)
    return Pose(points[None], size)


@pytest.mark.parametrize("box", [(80, 60, 170, 240), (0, 0, 60, 130), (150, 170, 260, 300)])
def test_labels_lie_where_the_picture_shows_it(box: tuple[int, int, int, int]) -> None:
    estimator = BodyEstimator(Painted(TINY))
    labels = estimator.labels(painted_scene(*box), spanning(*box, (300, 260)))
    assert labels.dtype == np.uint8
    assert labels.shape == (300, 260)
    truth = np.zeros((300, 260), bool)
    truth[box[1] : box[3], box[0] : box[2]] = True
    assert set(np.unique(labels)) == {0, 4}
    wrong = (labels == 4) != truth
    perimeter = 2 * (box[2] - box[0] + box[3] - box[1])
    assert wrong.sum() < 4 * perimeter  # a sample of the label map is some eight pixels wide here


def test_labels_in_blocks_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    estimator, box = BodyEstimator(Painted(TINY)), (80, 60, 170, 240)
    scene, pose = painted_scene(*box), spanning(*box, (300, 260))
    whole = estimator.labels(scene, pose)
    monkeypatch.setattr("styletryon.pose._labelling._BLOCK", 12 * 260 * 7)
    assert np.array_equal(estimator.labels(scene, pose), whole)


def test_labels_follow_the_edges_of_the_picture() -> None:
    rng = np.random.default_rng(0)
    truth = np.zeros((192, 128), bool)
    truth[30:170, 40:90] = True
    truth[:, 70:] &= (np.arange(192) > 100)[:, None]
    array = np.where(truth[..., None], (200, 40, 40), (90, 110, 130)) + rng.normal(0, 4, (192, 128, 3))
    photo = Image.fromarray(np.clip(array, 0, 255).astype(np.uint8))
    rough = np.roll(truth, (3, -3), (0, 1)).reshape(48, 4, 32, 4).mean((1, 3))  # a quarter of the size, and shifted
    probabilities = torch.zeros(12, 48, 32)
    probabilities[4] = torch.from_numpy(rough)
    probabilities[0] = 1 - probabilities[4]
    frame, picture = (0.0, 0.0, 128.0, 192.0), cut(photo, (0, 0, 128, 192), (192, 128))
    plain = spread(probabilities, frame, photo, None) == 4
    guided = spread(probabilities, frame, photo, picture) == 4
    assert (guided != truth).sum() < 0.4 * (plain != truth).sum()


def test_guided_coefficients_give_back_a_linear_function_of_the_colours(generator: torch.Generator) -> None:
    guide = torch.rand(3, 20, 16, generator=generator)
    values = torch.stack([0.3 * guide[0] - 0.2 * guide[1] + 0.5 * guide[2] + 0.1, torch.full((20, 16), 0.4)])
    fitted = guided_coefficients(guide, values)
    assert fitted.shape == (2, 4, 20, 16)
    again = (fitted[:, :3] * guide).sum(1) + fitted[:, 3]
    torch.testing.assert_close(again, values, rtol=0, atol=0.02)


def scored(**classes: tuple[slice, slice, float]) -> Tensor:
    """Probabilities of a picture of 40x30 samples: name of a class -> rows, columns and how probable it is there."""
    maps = torch.full((12, 40, 30), 1e-3)
    maps[0] = 0.3
    for name, (rows, columns, value) in classes.items():
        maps[Label[name.upper()], rows, columns] = value
    return maps / maps.sum(0)


@pytest.mark.parametrize(("dress", "winner"), [(0.69, {Label.DRESS}), (0.4, {Label.TOP, Label.BOTTOM})])
def test_a_dress_is_one_thing(dress: float, winner: set[Label]) -> None:
    wide = slice(8, 22)
    maps = scored(dress=(slice(5, 35), wide, dress), top=(slice(5, 15), wide, 0.7), bottom=(slice(15, 35), wide, 0.8))
    maps[Label.DRESS, 13:17, wide] *= 4  # a belt of which the network is sure
    assert set(maps.argmax(0).unique().tolist()) == {0, Label.TOP, Label.BOTTOM, Label.DRESS}
    assert set(coherent(maps).argmax(0).unique().tolist()) - {0} == winner


def test_patches_of_a_garment_go_and_a_jacket_over_a_shirt_stays() -> None:
    maps = scored(
        outerwear=(slice(5, 25), slice(5, 25), 0.8), top=(slice(5, 25), slice(12, 18), 2.0),
        bottom=(slice(25, 38), slice(8, 22), 0.9),
    )  # fmt: skip
    maps[Label.TOP, 30, 10] = 5.0  # a fleck on the trousers
    found = coherent(maps).argmax(0)
    assert found[30, 10] == Label.BOTTOM
    assert (found[5:25, 12:18] == Label.TOP).all()
    assert (found[5:25, 5:12] == Label.OUTERWEAR).all()


def test_the_box_around_a_person_leaves_specks_out() -> None:
    maps = scored(top=(slice(10, 30), slice(6, 12), 5.0), hair=(slice(0, 2), slice(28, 30), 5.0))
    assert person_box(maps, (100.0, 200.0, 160.0, 280.0)) == (112.0, 220.0, 124.0, 260.0)
    assert person_box(scored(), (0.0, 0.0, 1.0, 1.0)) is None


@settings(deadline=None)
@given(st.integers(1, 40), st.floats(-30, 30), st.floats(1, 300))
def test_interpolation_keeps_constants_and_straight_lines(count: int, low: float, length: float) -> None:
    first = max(0, math.ceil(low))
    last = max(first, math.floor(low + length))
    weights = between(first, last, low, low + length, count)
    torch.testing.assert_close(weights.sum(1), torch.ones(max(0, last - first)))
    centres = low + (torch.arange(count) + 0.5) * (length / count)
    places = (torch.arange(first, last) + 0.5).clamp(float(centres[0]), float(centres[-1]))
    torch.testing.assert_close(weights @ centres, places, rtol=1e-3, atol=2e-3)


def test_labels_want_the_pose_of_one_person_in_this_picture() -> None:
    estimator, scene = BodyEstimator(Painted(TINY)), painted_scene(80, 60, 170, 240)
    good = spanning(80, 60, 170, 240, (300, 260))
    hidden = good.keypoints.clone()
    hidden[..., 2] = 0
    for pose in (good.resized((150, 130)), Pose(good.keypoints.repeat(2, 1, 1), good.size), Pose(hidden, good.size)):
        with pytest.raises(PoseError, match="pose: expected the keypoints of one person in a picture of 300x260"):
            estimator.labels(scene, pose)


@pytest.mark.parametrize("refine", [True, False])
def test_parse_gives_the_pose_of_a_call_and_labels(refine: bool) -> None:
    estimator = BodyEstimator(Painted(TINY), refine=refine)
    scene = painted_scene(80, 60, 170, 240)
    pose, labels = estimator.parse(scene)
    assert torch.equal(pose.keypoints, estimator(scene).keypoints)
    assert labels.shape == (300, 260)
    assert (labels[120:180, 100:150] == 4).mean() > 0.9


def test_a_frame_that_lost_the_person_still_gives_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    estimator = BodyEstimator(Painted(TINY))
    monkeypatch.setattr(estimator, "_frame", lambda *_: (-500.0, -500.0, -400.0, -400.0))
    _, labels = estimator.parse(painted_scene(80, 60, 170, 240))
    assert (labels[120:180, 100:150] == 4).all()


def test_bundled_labels_a_rendered_figure(bundled: BodyEstimator, figure: tuple[Image.Image, Tensor]) -> None:
    image, _ = figure
    pose, labels = bundled.parse(image)
    assert torch.equal(pose.keypoints, bundled(image).keypoints)
    truth = paperdoll.render(paperdoll.sample_figure(70_001), (256, 192)).labels
    assert ((labels > 0) == (truth > 0)).mean() > 0.9
    assert (labels == truth).mean() > 0.8


@pytest.fixture(scope="module")
def couple(figure: tuple[Image.Image, Tensor]) -> tuple[Image.Image, Tensor, Tensor]:
    """Two figures side by side, the right one smaller, with the keypoints of both."""
    image, left = figure
    other = paperdoll.render(paperdoll.sample_figure(70_004), (256, 192))
    small = Image.fromarray(other.image).resize((144, 192))
    scene = Image.new("RGB", (192 + 144, 256), (128, 128, 128))
    scene.paste(image, (0, 0))
    scene.paste(small, (192, 64))
    right = torch.from_numpy(other.keypoints).float() * torch.tensor([0.75, 0.75, 1])
    return scene, left, right + torch.tensor([192.0, 64.0, 0.0])


def test_of_two_people_the_larger_counts(
    bundled: BodyEstimator, couple: tuple[Image.Image, Tensor, Tensor]
) -> None:
    scene, left, _ = couple
    assert near(bundled(scene), left) >= 0.8
    mirrored = left.clone()
    mirrored[:, 0] = scene.width - left[:, 0]
    pose = bundled(scene.transpose(Image.Transpose.FLIP_LEFT_RIGHT))
    assert near(pose, mirrored[list(FLIP_ORDER)]) >= 0.8


def test_a_box_chooses_the_person(bundled: BodyEstimator, couple: tuple[Image.Image, Tensor, Tensor]) -> None:
    scene, left, right = couple
    for box, truth in (((0, 0, 192, 256), left), ((192, 64, 336, 256), right)):
        pose, labels = bundled.parse(scene, box=box)
        assert near(pose, truth) >= 0.8
        shown = pose.keypoints[0][pose.keypoints[0, :, 2] > 0.3]
        assert bool((shown[:, 0] >= box[0] - 3).all())
        assert bool((shown[:, 0] <= box[2] + 3).all())
        beside = labels[:, : box[0] - 20] if box[0] else labels[:, box[2] + 20 :]
        assert (beside == 0).mean() > 0.9


@pytest.mark.parametrize(
    "box",
    [
        (0, 0, 0, 10), (10, 10, 5, 20), (400, 0, 500, 100), (0, 0, 10), (0, 0, float("nan"), 10), (-9, -9, -1, -1),
        "abcd", ("a", 1, 2, 3), 5,
    ],
)  # fmt: skip
def test_boxes_that_show_nothing_are_refused(bundled: BodyEstimator, box: Any) -> None:
    with pytest.raises(RangeError, match="box: expected"):
        bundled(Image.new("RGB", (60, 80)), box=box)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("KeypointConfig", BodyConfig),
        ("KeypointEstimator", BodyEstimator),
        ("KeypointNetwork", BodyNetwork),
        ("load_keypoint_network", load_body_network),
    ],
)
def test_names_of_the_first_release_still_lead_there(old: str, new: object) -> None:
    with pytest.warns(DeprecationWarning, match=rf"styletryon\.pose\.{old} is called .* the old name goes in 0\.3"):
        assert getattr(styletryon.pose, old) is new
    with pytest.raises(AttributeError, match="no attribute 'KeypointHat'"):
        _ = styletryon.pose.KeypointHat


# Files


def test_export_and_load_round_trip(tmp_path: Path, generator: torch.Generator) -> None:
    network = BodyNetwork(TINY).eval()
    export(network, tmp_path)
    loaded = load_body_network(tmp_path)
    images = torch.rand(1, 3, 96, 64, generator=generator) * 2 - 1
    for a, b in zip(network(images), loaded(images), strict=True):
        torch.testing.assert_close(a, b, rtol=0.02, atol=0.02)  # half precision
    assert not any(parameter.requires_grad for parameter in loaded.parameters())


def test_broken_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointNotFoundError, match=r"folder: expected the file .*body\.json"):
        load_body_network(tmp_path)
    export(BodyNetwork(TINY), tmp_path)
    described, tensors = tmp_path / "body.json", tmp_path / "body.safetensors"
    text, good = described.read_text(), load_file(tensors)

    save_file({key: value for key, value in good.items() if key != "heatmap.bias"}, tensors)
    with pytest.raises(CheckpointError, match=r"missing \['heatmap.bias'\]"):
        BodyEstimator.from_pretrained(tmp_path)
    save_file({**good, "more": torch.zeros(1)}, tensors)
    with pytest.raises(CheckpointError, match=r"unexpected \['more'\]"):
        BodyEstimator.from_pretrained(tmp_path)
    save_file({**good, "heatmap.bias": torch.zeros(3)}, tensors)
    with pytest.raises(CheckpointError, match=r"heatmap.bias \(3,\) for \(17,\)"):
        BodyEstimator.from_pretrained(tmp_path)
    tensors.write_bytes(b"no tensors")
    with pytest.raises(CheckpointError, match="expected safetensors"):
        BodyEstimator.from_pretrained(tmp_path)

    described.write_text("{")
    with pytest.raises(CheckpointError, match="expected JSON"):
        load_body_network(tmp_path)
    described.write_text(text.replace("BodyNetwork", "Other"))
    with pytest.raises(CheckpointError, match="expected the class BodyNetwork"):
        load_body_network(tmp_path)
    described.write_text(text.replace('"heads"', '"hats"'))
    with pytest.raises(CheckpointError, match="unknown hats"):
        load_body_network(tmp_path)


# Keypoint R-CNN


@pytest.fixture(scope="module")
def rcnn_state() -> dict[str, Tensor]:
    """A state dict that stands in for torchvision's: all zero but for a detector that is sure of every box."""
    from torchvision.models.detection import keypointrcnn_resnet50_fpn

    with torch.device("meta"):
        network = keypointrcnn_resnet50_fpn(weights=None, weights_backbone=None)
    state = {}
    for key, value in network.state_dict().items():
        one = key.endswith("running_var")
        state[key] = torch.full((1,) * value.ndim, float(one)).expand(value.shape) if value.ndim else torch.zeros(())
    state["roi_heads.box_predictor.cls_score.bias"] = torch.tensor([0.0, 4.0])
    state["roi_heads.keypoint_predictor.kps_score_lowres.bias"] = torch.full((17,), 4.0)
    return state


def test_rcnn_with_a_local_file(tmp_path: Path, rcnn_state: dict[str, Tensor]) -> None:
    path = tmp_path / "rcnn.pth"
    torch.save(rcnn_state, path)
    random_state = torch.get_rng_state()
    estimator = KeypointRCNNEstimator(path, side=64)
    assert torch.equal(torch.get_rng_state(), random_state)
    assert not estimator.network.training
    pose = estimator(Image.new("RGB", (90, 120)))
    assert pose.size == (120, 90)
    points = pose.keypoints[0]
    assert bool(((points >= 0) & (points <= torch.tensor([90.0, 120.0, 1.0]))).all())
    assert float(points[:, 2].max()) > 0
    with pytest.raises(ImageError, match="image: expected a PIL image"):
        estimator("photo.jpg")  # type: ignore[arg-type]


def test_rcnn_takes_the_largest_sure_person(tmp_path: Path, rcnn_state: dict[str, Tensor]) -> None:
    path = tmp_path / "rcnn.pth"
    torch.save(rcnn_state, path)
    estimator = KeypointRCNNEstimator(path, side=64)
    points = torch.arange(3 * 17 * 3, dtype=torch.float32).reshape(3, 17, 3) / 10
    found = {
        "boxes": torch.tensor([[0.0, 0, 10, 10], [0, 0, 40, 60], [0, 0, 50, 80]]),
        "labels": torch.tensor([1, 1, 1]),
        "scores": torch.tensor([0.99, 0.9, 0.3]),
        "keypoints": points,
        "keypoints_scores": torch.full((3, 17), 9.0),
    }
    estimator.network.forward = lambda images: [found]  # type: ignore[method-assign]
    pose = estimator(Image.new("RGB", (90, 120)))
    torch.testing.assert_close(pose.keypoints[0, :, :2], points[1, :, :2])
    assert float(pose.keypoints[0, 0, 2]) == pytest.approx(0.9, abs=0.01)
    found["scores"] = torch.tensor([0.1, 0.2, 0.3])
    with pytest.raises(PersonNotFoundError, match=r"got a best detection of 0\.30"):
        estimator(Image.new("RGB", (90, 120)))


def test_rcnn_takes_the_person_in_the_box(tmp_path: Path, rcnn_state: dict[str, Tensor]) -> None:
    path = tmp_path / "rcnn.pth"
    torch.save(rcnn_state, path)
    estimator = KeypointRCNNEstimator(path, side=64)
    points = torch.arange(2 * 17 * 3, dtype=torch.float32).reshape(2, 17, 3) / 10
    found = {
        "boxes": torch.tensor([[0.0, 0, 40, 60], [50, 20, 70, 80]]),
        "labels": torch.tensor([1, 1]),
        "scores": torch.tensor([0.99, 0.8]),
        "keypoints": points,
        "keypoints_scores": torch.full((2, 17), 9.0),
    }
    estimator.network.forward = lambda images: [found]  # type: ignore[method-assign]
    picture = Image.new("RGB", (90, 120))
    pose = estimator(picture, box=(45, 10, 80, 90))
    torch.testing.assert_close(pose.keypoints[0, :, :2], points[1, :, :2])
    torch.testing.assert_close(estimator(picture).keypoints[0, :, :2], points[0, :, :2])
    with pytest.raises(PersonNotFoundError, match="image: expected a photograph that shows a person"):
        estimator(picture, box=(75, 100, 90, 120))
    with pytest.raises(RangeError, match="box: expected left < right"):
        estimator(picture, box=(9, 9, 9, 9))


def test_rcnn_says_what_to_do_without_weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from torchvision.models.detection import KeypointRCNN_ResNet50_FPN_Weights as Weights

    def offline(*args: object, **kwargs: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(Weights, "get_state_dict", offline)
    with pytest.raises(WeightsUnavailableError, match=r"no route to host.*weights=PATH, or use BodyEstimator"):
        KeypointRCNNEstimator()
    with pytest.raises(CheckpointNotFoundError, match="weights: expected 'coco' or the path of a file"):
        KeypointRCNNEstimator(tmp_path / "none.pth")
    (tmp_path / "bad.pth").write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match="weights: expected a state dict in"):
        KeypointRCNNEstimator(tmp_path / "bad.pth")
    save_file({"one": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError, match=r"weights: expected the tensors of a KeypointRCNN, got missing"):
        KeypointRCNNEstimator(tmp_path / "other.safetensors")
    with pytest.raises(RangeError, match="side: expected a positive number"):
        KeypointRCNNEstimator(side=0)
    with pytest.raises(RangeError, match="least_score: expected a number"):
        KeypointRCNNEstimator(least_score=2)
