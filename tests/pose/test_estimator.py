"""The pose estimators: the bundled network, its training, and the adapter of Keypoint R-CNN."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

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
from styletryon.pose import (
    KeypointConfig,
    KeypointEstimator,
    KeypointNetwork,
    KeypointRCNNEstimator,
    Pose,
    PoseEstimator,
    load_keypoint_network,
)
from styletryon.pose.estimator import _cut, _peaks
from styletryon.training.keypoints import (
    Augmenter,
    Example,
    KeypointTrainer,
    KeypointTraining,
    background_strips,
    export,
    keypoint_loss,
    pck,
    read_examples,
    train,
)

TINY = KeypointConfig(size=(64, 48), widths=(4, 8, 8, 8), depths=(1, 1, 1), attention_blocks=1, heads=2, neck_width=8)


@pytest.fixture(scope="module")
def bundled() -> KeypointEstimator:
    return KeypointEstimator.from_pretrained()


@pytest.fixture(scope="module")
def figure() -> tuple[Image.Image, Tensor]:
    """An unseen rendered figure, as a picture and its keypoints."""
    paperdoll = pytest.importorskip("styletryon.data.paperdoll")
    picture = paperdoll.render(paperdoll.sample_figure(70_001), (256, 192))
    return Image.fromarray(np.asarray(picture.image)), torch.as_tensor(np.asarray(picture.keypoints))


def torso(points: Tensor) -> float:
    return float((points[5:7, :2].mean(0) - points[11:13, :2].mean(0)).norm())


def near(pose: Pose, truth: Tensor, share: float = 0.2) -> float:
    """PCK of one pose over the keypoints in the picture."""
    shown = truth[:, 2] >= 0.3
    distance = (pose.keypoints[0, :, :2] - truth[:, :2]).norm(dim=-1)
    return float((distance <= share * torso(truth))[shown].float().mean())


def synthetic_example(generator: np.random.Generator) -> Example:
    """A standing row of coloured blobs: enough of a person to train on for a few steps."""
    image = np.full((96, 72, 3), 200, np.uint8)
    x = np.where(np.arange(17) % 2, 42.0, 30.0)
    y = np.linspace(10, 86, 17)
    for index in range(17):
        image[int(y[index]) - 2 : int(y[index]) + 3, int(x[index]) - 2 : int(x[index]) + 3] = (index * 15, 40, 90)
    points = np.stack([x, y, np.ones(17)], -1).astype(np.float32)
    mask = Image.fromarray(np.where(image.min(-1) < 199, 255, 0).astype(np.uint8))
    del generator
    return Example(Image.fromarray(image), points, mask)


# The network


def test_features_are_a_pyramid_of_any_size() -> None:
    network = KeypointNetwork(TINY).eval()
    maps = network.features(torch.zeros(2, 3, 50, 70))
    assert [tuple(m.shape) for m in maps] == [(2, 4, 25, 35), (2, 8, 13, 18), (2, 8, 7, 9), (2, 8, 4, 5)]
    assert all(bool((m >= 0).all()) for m in maps)


def test_forward_shapes_and_other_sizes() -> None:
    network = KeypointNetwork(TINY).eval()
    for size in ((64, 48), (96, 64)):
        logits, presence = network(torch.zeros(2, 3, *size))
        assert logits.shape == (2, 17, size[0] // 4, size[1] // 4)
        assert presence.shape == (2, 17)


def test_network_refuses_wrong_shapes() -> None:
    network = KeypointNetwork(TINY)
    with pytest.raises(ShapeError, match=r"images: expected \(B, 3, H, W\) with multiples of 16, got"):
        network(torch.zeros(1, 3, 60, 48))
    with pytest.raises(ShapeError, match=r"images: expected shape \(B, 3, H, W\), got \(3, 64, 48\)"):
        network.features(torch.zeros(3, 64, 48))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": (60, 48)}, "size: expected two multiples of 16"),
        ({"widths": (4, 8, 8)}, "widths: expected four positive numbers"),
        ({"depths": (1, -1, 1)}, "depths: expected three numbers"),
        ({"heads": 7}, "heads: expected a divisor"),
    ],
)
def test_config_refuses_nonsense(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        KeypointConfig.from_dict(settings)


def test_config_round_trip_and_unknown_settings() -> None:
    assert KeypointConfig.from_dict(json.loads(json.dumps(TINY.to_dict()))) == TINY
    with pytest.raises(ConfigError, match="unknown colour"):
        KeypointConfig.from_dict({"colour": 3})


def test_folding_changes_nothing(generator: torch.Generator) -> None:
    network = KeypointNetwork(TINY)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(generator=generator)
            module.running_var.uniform_(0.5, 2, generator=generator)
            module.weight.data.uniform_(0.5, 2, generator=generator)
    images = torch.rand(2, 3, 64, 48, generator=generator) * 2 - 1
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
    part = _cut(photo, (-6.0, -8.0, 42.0, 56.0), (64, 48))  # one pixel is one pixel
    inside = torch.from_numpy(np.array(photo)).permute(2, 0, 1).float() / 127.5 - 1
    torch.testing.assert_close(part[:, 8:48, 6:36], inside)
    assert float((part[:, :8] - (128 / 127.5 - 1)).abs().max()) < 1e-6
    away = _cut(photo, (100.0, 100.0, 148.0, 164.0), (64, 48))
    assert float(away.std()) == 0


@pytest.mark.parametrize("place", [(10.0, 12.0), (3.3, 17.8), (0.5, 0.5), (23.5, 31.5)])
def test_peaks_are_found_to_a_tenth_of_a_pixel(place: tuple[float, float]) -> None:
    columns, rows = torch.arange(24) + 0.5, torch.arange(32) + 0.5
    bump = torch.exp(-((columns - place[0]) ** 2)[None, :] / 2 - ((rows - place[1]) ** 2)[:, None] / 2)
    far = torch.zeros_like(bump)
    far[16, 12] = 0.4  # another person must not pull
    x, y = _peaks(torch.stack([torch.maximum(bump, far)]) / bump.sum())
    tolerance = 0.1 if 2 < place[0] < 22 else 1.0  # at the edge half of the bump is missing
    assert abs(float(x) - place[0]) < tolerance
    assert abs(float(y) - place[1]) < tolerance


# The bundled estimator


def test_bundled_weights_are_small_and_half_precision() -> None:
    import styletryon

    folder = Path(str(styletryon.__path__[0])) / "weights"
    path = folder / "keypoints.safetensors"
    assert path.stat().st_size <= 4_000_000
    assert {value.dtype for value in load_file(path).values()} == {torch.float16}
    assert (folder / "KEYPOINTS.md").is_file()


def test_bundled_finds_a_rendered_figure(bundled: KeypointEstimator, figure: tuple[Image.Image, Tensor]) -> None:
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


def test_bundled_follows_scale_place_and_mode(bundled: KeypointEstimator, figure: tuple[Image.Image, Tensor]) -> None:
    image, truth = figure
    scene = Image.new("RGB", (900, 400), (150, 160, 170))
    scene.paste(image.resize((300, 400)), (500, 0))
    moved = truth.clone()
    moved[:, :2] *= 400 / 256
    moved[:, 0] += 500
    assert near(bundled(scene), moved) >= 0.7
    assert near(bundled(image.convert("RGBA")), truth) >= 0.8


def test_mirrored_picture_gives_the_mirrored_pose(
    bundled: KeypointEstimator, figure: tuple[Image.Image, Tensor]
) -> None:
    image, _ = figure
    pose = bundled(image)
    mirrored = bundled(image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)).flipped()
    assert float((pose.keypoints - mirrored.keypoints).abs().amax(-1).median()) < 2


NOBODY = ["flat", "white", "black", "noise", "grey_noise", "gradient", "stripes", "tiny", "landscape"]


@pytest.mark.parametrize("kind", NOBODY)
def test_nobody_is_found_in_pictures_of_nobody(bundled: KeypointEstimator, kind: str) -> None:
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


def test_estimator_refuses_what_is_no_picture(bundled: KeypointEstimator) -> None:
    with pytest.raises(ImageError, match="image: expected a PIL image, got ndarray"):
        bundled(np.zeros((4, 4, 3)))  # type: ignore[arg-type]
    with pytest.raises(RangeError, match="least_score: expected a number in"):
        KeypointEstimator(KeypointNetwork(TINY), least_score=1.5)
    assert issubclass(PersonNotFoundError, PoseError)


def test_untrained_network_runs_without_threshold() -> None:
    pose = KeypointEstimator(KeypointNetwork(TINY), least_score=0.0)(Image.new("RGB", (30, 90)))
    assert pose.size == (90, 30)
    assert bool(((pose.keypoints[0, :, 0] >= 0) & (pose.keypoints[0, :, 0] <= 30)).all())


# Files


def test_export_and_load_round_trip(tmp_path: Path, generator: torch.Generator) -> None:
    network = KeypointNetwork(TINY).eval()
    export(network, tmp_path)
    loaded = load_keypoint_network(tmp_path)
    images = torch.rand(1, 3, 64, 48, generator=generator) * 2 - 1
    for a, b in zip(network(images), loaded(images), strict=True):
        torch.testing.assert_close(a, b, rtol=0.02, atol=0.02)  # half precision
    assert not any(parameter.requires_grad for parameter in loaded.parameters())


def test_broken_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointNotFoundError, match=r"folder: expected the file .*keypoints\.json"):
        load_keypoint_network(tmp_path)
    export(KeypointNetwork(TINY), tmp_path)
    settings, tensors = tmp_path / "keypoints.json", tmp_path / "keypoints.safetensors"
    text, good = settings.read_text(), load_file(tensors)

    save_file({key: value for key, value in good.items() if key != "heatmap.bias"}, tensors)
    with pytest.raises(CheckpointError, match=r"missing \['heatmap.bias'\]"):
        KeypointEstimator.from_pretrained(tmp_path)
    save_file({**good, "more": torch.zeros(1)}, tensors)
    with pytest.raises(CheckpointError, match=r"unexpected \['more'\]"):
        KeypointEstimator.from_pretrained(tmp_path)
    save_file({**good, "heatmap.bias": torch.zeros(3)}, tensors)
    with pytest.raises(CheckpointError, match=r"heatmap.bias \(3,\) for \(17,\)"):
        KeypointEstimator.from_pretrained(tmp_path)
    tensors.write_bytes(b"no tensors")
    with pytest.raises(CheckpointError, match="expected safetensors"):
        KeypointEstimator.from_pretrained(tmp_path)

    settings.write_text("{")
    with pytest.raises(CheckpointError, match="expected JSON"):
        load_keypoint_network(tmp_path)
    settings.write_text(text.replace("KeypointNetwork", "Other"))
    with pytest.raises(CheckpointError, match="expected the class KeypointNetwork"):
        load_keypoint_network(tmp_path)
    settings.write_text(text.replace('"heads"', '"hats"'))
    with pytest.raises(CheckpointError, match="unknown hats"):
        load_keypoint_network(tmp_path)


# The training


def test_augmentation_moves_picture_and_keypoints_together(rng: np.random.Generator) -> None:
    example = synthetic_example(rng)
    augmenter = Augmenter([], seed=3)
    hits = total = 0
    for _ in range(40):
        picture, points = augmenter.draw(example, (96, 72))
        assert picture.shape == (96, 72, 3)
        for index in range(1, 17):
            if points[index, 2] and 4 < points[index, 0] < 68 and 4 < points[index, 1] < 92:
                # The blob's colour tells which keypoint it is, and a mirror image swaps left and right.
                options = {index, index + 1 if index % 2 else index - 1}
                red = int(picture[int(points[index, 1]), int(points[index, 0]), 0])
                hits += any(abs(red - 15 * option) < 40 for option in options)
                total += 1
    assert total > 200
    assert hits / total > 0.8  # the rest is erased or blurred by shrinking


def test_pictures_of_nobody_have_no_keypoints(rng: np.random.Generator) -> None:
    strips = background_strips([synthetic_example(rng)], least=8)
    assert len(strips) == 2
    augmenter = Augmenter(strips, seed=0)
    nobody = Example(Image.new("RGB", (8, 8)), None)
    for _ in range(20):
        picture, points = augmenter.draw(nobody, (64, 48))
        assert picture.dtype == np.uint8
        assert picture.shape == (64, 48, 3)
        assert not points[:, 2].any()
    images = augmenter.recolour(torch.rand(8, 3, 64, 48))
    assert float(images.min()) >= -1
    assert float(images.max()) <= 1


def test_loss_is_zero_at_the_truth_and_ignores_the_missing() -> None:
    points = torch.rand(2, 17, 3) * torch.tensor([48.0, 64.0, 1.0])
    points[..., 2] = 1
    points[0, 3, 2] = 0
    maps = Pose(points, (64, 48)).heatmaps((16, 12), sigma=1.0).clamp(min=1e-30).log()
    maps[0, 3] = 7.0  # would cost, if it counted
    where, whether = keypoint_loss(maps, torch.where(points[..., 2] > 0, 20.0, -20.0), points, (64, 48))
    assert float(where) == pytest.approx(0, abs=1e-4)
    assert float(whether) == pytest.approx(0, abs=1e-4)
    assert float(keypoint_loss(maps.flip(-1), points[..., 2], points, (64, 48))[0]) > 1


def test_pck_counts_by_the_torso_or_the_box() -> None:
    truth = torch.ones(1, 17, 3)
    truth[0, :, 1] = torch.linspace(0, 160, 17)  # shoulders at 55, hips at 115: a torso of 60
    found = truth[..., :2].clone()
    found[0, :10, 0] += 9
    assert pck(found, truth, 0.1) == pytest.approx(7 / 17)
    assert pck(found, truth, 0.2) == 1
    assert pck(found, truth, 0.05, by="box") == pytest.approx(7 / 17)
    truth[0, :5, 2] = 0
    assert pck(found, truth, 0.1) == pytest.approx(7 / 12)
    with pytest.raises(ConfigError, match="by: expected 'torso' or 'box', got 'head'"):
        pck(found, truth, 0.1, by="head")


def test_training_learns_saves_and_resumes(tmp_path: Path, rng: np.random.Generator) -> None:
    settings = KeypointTraining(minutes=0.03, batch=4, small_share=0.0, small_size=(32, 32), learning_rate=5e-3)
    trainer = KeypointTrainer(settings, TINY, tmp_path)
    train(trainer, [(1.0, [synthetic_example(rng)])], {})
    assert trainer.step > 3
    assert trainer.progress == 1
    again = KeypointTrainer(settings, TINY, tmp_path)
    again.resume()
    assert again.step == trainer.step
    for a, b in zip(again.average.state_dict().values(), trainer.average.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    assert set(again.optimizer.state_dict()["state"]) == set(trainer.optimizer.state_dict()["state"])
    assert KeypointEstimator.from_pretrained(tmp_path).network.config.folded
    with pytest.raises(CheckpointNotFoundError, match="out: expected"):
        KeypointTrainer(settings, TINY, tmp_path / "none").resume()


def test_one_batch_is_learnt_by_heart(rng: np.random.Generator, tmp_path: Path) -> None:
    example = synthetic_example(rng)
    trainer = KeypointTrainer(KeypointTraining(minutes=60, learning_rate=1e-2), TINY, tmp_path)
    image = torch.from_numpy(np.array(example.image.resize((48, 64)))).permute(2, 0, 1).float()[None] / 127.5 - 1
    points = torch.from_numpy(np.array(example.keypoints))[None] * torch.tensor([48 / 72, 64 / 96, 1.0])
    images, points = image.repeat(2, 1, 1, 1), points.repeat(2, 1, 1)
    losses = [trainer.train_step(images, points)[0] for _ in range(60)]
    assert losses[-1] < 0.5 * losses[0]


def test_photographs_are_read_small_with_their_keypoints(tmp_path: Path) -> None:
    Image.new("RGB", (600, 900), (9, 9, 9)).save(tmp_path / "a.jpg")
    points = [[300.0, 450.0, 1.0]] * 17
    (example,) = read_examples(tmp_path, {"a": points})
    assert example.image.size == (192, 288)
    np.testing.assert_allclose(np.asarray(example.keypoints)[0], [96, 144, 1])
    with pytest.raises(Exception, match=r"keypoints: expected a picture b\.jpg"):
        read_examples(tmp_path, {"b": points})


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"minutes": 0}, "minutes:"), ({"batch": 1}, "batch:"), ({"ema": 1.0}, "ema:"), ({"empty_share": -1}, "empty_")],
)
def test_training_settings_are_checked(settings: dict[str, float], message: str) -> None:
    with pytest.raises(RangeError, match=message):
        KeypointTraining(**settings)  # type: ignore[arg-type]


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


def test_rcnn_says_what_to_do_without_weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from torchvision.models.detection import KeypointRCNN_ResNet50_FPN_Weights as Weights

    def offline(*args: object, **kwargs: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(Weights, "get_state_dict", offline)
    with pytest.raises(WeightsUnavailableError, match=r"no route to host.*weights=PATH, or use KeypointEstimator"):
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
