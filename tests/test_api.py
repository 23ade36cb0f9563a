"""The public calls, on a tiny generator; at the end, on the bundled weights."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import styletryon
from styletryon.data import paperdoll
from styletryon.errors import (
    CheckpointNotFoundError,
    ConfigError,
    ImageError,
    ImageNotFoundError,
    LossError,
    PersonNotFoundError,
    PoseError,
    RangeError,
    RegionError,
    ShapeError,
    StyleTryOnError,
    TryOnWarning,
)
from styletryon.photo import Photograph
from styletryon.tryon.presets import PRESETS
from tests._support.tiny import tiny_generator
from tests.benchmarks.photographs import check_pixels

SIZE = (160, 120)
ANYTHING = range(1, 12)
"""A region that an untrained generator's segmentation is sure to show."""


@pytest.fixture(scope="module")
def model() -> styletryon.PoseStyleGAN2:
    return tiny_generator()


@pytest.fixture(scope="module")
def figures() -> list[tuple[np.ndarray, styletryon.Pose]]:
    """Two rendered people with their poses."""
    rendered = [paperdoll.render(paperdoll.sample_figure(seed), SIZE) for seed in (3, 4)]
    return [(figure.image, styletryon.Pose(torch.from_numpy(figure.keypoints), SIZE)) for figure in rendered]


@pytest.fixture(scope="module")
def person(figures: Any, model: styletryon.PoseStyleGAN2) -> styletryon.Latent:
    image, pose = figures[0]
    return styletryon.project(image, pose=pose, model=model, preset="fast")


@pytest.fixture(scope="module")
def garment(figures: Any, model: styletryon.PoseStyleGAN2) -> styletryon.Latent:
    image, pose = figures[1]
    return styletryon.project(image, pose=pose, model=model, preset="fast")


def same(first: styletryon.Latent, second: styletryon.Latent) -> bool:
    """Whether two latents are equal bit for bit."""
    return all(map(torch.equal, first.styles, second.styles)) and torch.equal(
        first.pose.keypoints, second.pose.keypoints
    )


class TestLoadModel:
    def test_a_generator_is_returned_as_it_is(self, model: styletryon.PoseStyleGAN2) -> None:
        assert styletryon.load_model(model) is model
        assert styletryon.load_model(model, device="cpu") is model
        assert styletryon.load_model(model, device=torch.device("cpu")) is model

    def test_a_generator_that_must_move_is_copied(self, model: styletryon.PoseStyleGAN2) -> None:
        moved = styletryon.load_model(model, device="meta")
        assert moved is not model
        assert moved.device.type == "meta"
        assert model.device.type == "cpu"

    def test_a_folder_is_loaded_once_until_it_is_written_anew(self, tmp_path: Path) -> None:
        tiny_generator(seed=1).save_pretrained(tmp_path)
        first = styletryon.load_model(tmp_path)
        assert styletryon.load_model(str(tmp_path)) is first
        tiny_generator(seed=2).save_pretrained(tmp_path)
        second = styletryon.load_model(tmp_path)
        assert second is not first
        assert second.fingerprint != first.fingerprint

    def test_nothing_there(self, tmp_path: Path) -> None:
        with pytest.raises(CheckpointNotFoundError, match="no such folder"):
            styletryon.load_model("nobody-trained-this")
        with pytest.raises(CheckpointNotFoundError, match=r"without config\.json"):
            styletryon.load_model(tmp_path)

    @pytest.mark.parametrize("device", ["toaster", "cuda:99", 3.5])
    def test_unknown_device(self, device: Any, model: styletryon.PoseStyleGAN2) -> None:
        with pytest.raises(ConfigError, match="device: expected a device that this machine has"):
            styletryon.load_model(model, device=device)


class TestGenerate:
    def test_same_seed_same_person(self, model: styletryon.PoseStyleGAN2, global_randomness_stays: None) -> None:
        first = styletryon.generate(seed=5, model=model)
        assert same(first, styletryon.generate(seed=5, model=model))
        assert not same(first, styletryon.generate(seed=6, model=model))
        assert len(first) == 1
        assert first.pose.size == model.image_size
        assert first.model == model.fingerprint
        assert model.draw(first).image.shape == (1, 3, *model.image_size)

    def test_the_person_does_not_depend_on_whether_a_pose_is_given(self, model: styletryon.PoseStyleGAN2) -> None:
        drawn = styletryon.generate(seed=5, model=model)
        posed = styletryon.generate(styletryon.generate(seed=9, model=model).pose, seed=5, model=model)
        assert all(map(torch.equal, drawn.styles, posed.styles))

    def test_a_batch_of_poses_is_a_batch_of_people(self, model: styletryon.PoseStyleGAN2, figures: Any) -> None:
        poses = styletryon.Pose(torch.cat([pose.keypoints for _, pose in figures]), SIZE)
        latent = styletryon.generate(poses, model=model)
        assert len(latent) == 2
        assert latent.pose.size == model.image_size
        assert torch.allclose(latent.pose.keypoints, poses.resized(model.image_size).keypoints)

    def test_truncation(self, model: styletryon.PoseStyleGAN2) -> None:
        mean = [styletryon.generate(seed=seed, model=model, truncation=0).styles for seed in (1, 2)]
        assert all(map(torch.equal, *mean))

    @pytest.mark.parametrize("truncation", [-0.1, 1.5, float("nan")])
    def test_truncation_out_of_range(self, truncation: float, model: styletryon.PoseStyleGAN2) -> None:
        with pytest.raises(RangeError, match=r"truncation: expected a finite number in \[0, 1\]"):
            styletryon.generate(model=model, truncation=truncation)

    def test_pose_of_another_aspect(self, model: styletryon.PoseStyleGAN2, figures: Any) -> None:
        square = styletryon.Pose(figures[0][1].keypoints, (160, 160))
        with pytest.raises(PoseError, match="pose: expected keypoints in a picture of 32x24"):
            styletryon.generate(square, model=model)

    def test_models_that_are_not_4_to_3(self) -> None:
        square = tiny_generator(size=(32, 32))
        latent = styletryon.generate(seed=0, model=square)
        trunk = latent.pose.keypoints[0, [5, 6, 11, 12], 0].mean()
        assert abs(float(trunk) - 16) < 5


class TestProject:
    def test_latent_knows_its_photograph(self, person: styletryon.Latent, figures: Any) -> None:
        assert len(person) == 1
        assert person.photograph is not None
        photograph = person.photograph[0]
        assert isinstance(photograph, Photograph)
        assert np.array_equal(np.asarray(photograph.picture), figures[0][0])
        assert person.report["reconstruction_psnr"] > 5

    def test_every_kind_of_picture_is_the_same_picture(
        self, figures: Any, model: styletryon.PoseStyleGAN2, person: styletryon.Latent, tmp_path: Path
    ) -> None:
        image, pose = figures[0]
        Image.fromarray(image).save(tmp_path / "person.png")
        tensor = torch.from_numpy(image).permute(2, 0, 1).float() / 255
        for kind in (str(tmp_path / "person.png"), tmp_path / "person.png", Image.fromarray(image), tensor):
            assert same(styletryon.project(kind, pose=pose, model=model, preset="fast"), person)

    def test_global_randomness_stays(
        self, figures: Any, model: styletryon.PoseStyleGAN2, global_randomness_stays: None
    ) -> None:
        image, pose = figures[0]
        styletryon.project(image, pose=pose, model=model, preset="fast")

    def test_pose_of_the_same_picture_at_another_size(
        self, figures: Any, model: styletryon.PoseStyleGAN2, person: styletryon.Latent
    ) -> None:
        image, pose = figures[0]
        latent = styletryon.project(image, pose=pose.resized((320, 240)), model=model, preset="fast")
        assert torch.allclose(latent.pose.keypoints, person.pose.keypoints, atol=1e-3)

    def test_progress_goes_to_stderr_and_leaves_the_result(
        self, figures: Any, model: styletryon.PoseStyleGAN2, person: styletryon.Latent, capsys: Any
    ) -> None:
        image, pose = figures[0]
        latent = styletryon.project(image, pose=pose, model=model, preset="fast", progress=True)
        captured = capsys.readouterr()
        assert captured.out == ""
        assert "projecting" in captured.err
        assert same(latent, person)

    def test_the_model_is_left_as_it_was(self, figures: Any, model: styletryon.PoseStyleGAN2) -> None:
        before = copy.deepcopy(model.state_dict())
        image, pose = figures[0]
        styletryon.project(image, pose=pose, model=model, preset="fast")
        assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


    @pytest.mark.filterwarnings("ignore::styletryon.errors.TryOnWarning")  # a network that was never trained
    def test_tuning_on_request_goes_with_the_latent(
        self, figures: Any, model: styletryon.PoseStyleGAN2, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setitem(styletryon.LatentProjector.__init__.__kwdefaults__, "tuning_steps", 5)
        before = copy.deepcopy(model.state_dict())
        image, pose = figures[0]
        plain = styletryon.project(image, pose=pose, model=model, preset="fast")
        tuned = styletryon.project(image, pose=pose, model=model, preset="fast", tune=True)
        assert plain.tuning is None
        assert tuned.tuning is not None
        assert tuned.photograph is not None
        assert same(plain, tuned)
        assert tuned.model == model.fingerprint
        assert tuned.report["pivot_psnr"] == pytest.approx(plain.report["reconstruction_psnr"], abs=0.01)
        assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
        tuned.save(tmp_path / "person.safetensors")
        loaded = styletryon.Latent.load(tmp_path / "person.safetensors")
        assert torch.equal(model.draw(loaded).image, model.draw(tuned).image)
        options: dict[str, Any] = {"region": ANYTHING, "model": model, "preset": "fast"}
        result = styletryon.try_on(tuned, plain, **options)
        assert result.latent.tuning is not None
        assert styletryon.try_on(result.latent, plain, **options).image.size == result.image.size


class TestTryOn:
    def test_pictures_and_latents_give_the_same_picture(
        self,
        figures: Any,
        model: styletryon.PoseStyleGAN2,
        person: styletryon.Latent,
        garment: styletryon.Latent,
        global_randomness_stays: None,
    ) -> None:
        (image, pose), (other, other_pose) = figures
        options: dict[str, Any] = {"region": ANYTHING, "model": model, "preset": "fast"}
        given = styletryon.try_on(image, other, person_pose=pose, garment_pose=other_pose, **options)
        pipeline = styletryon.TryOnPipeline(model, preset="fast")
        photographs = [pipeline.read(image, pose=pose), pipeline.read(other, pose=other_pose)]
        together = styletryon.try_on(*pipeline.project_photographs(photographs), **options)
        assert np.array_equal(np.asarray(given.image), np.asarray(together.image))
        # Projected alone, a picture ends a little elsewhere than beside another.
        alone = styletryon.try_on(person, garment, **options)
        assert (given.drawn - alone.drawn).abs().mean() < 1e-3
        assert given.image.size == (SIZE[1], SIZE[0])
        assert given.segmentation.shape == SIZE
        assert given.segmentation.dtype == np.uint8
        assert set(given.coefficients) == set(model.style_names)
        assert all(0 <= float(q.min()) <= float(q.max()) <= 1 for q in given.coefficients.values())
        assert set(given.history) == {"localization", "garment", "identity", "total"}
        assert all(isinstance(value, float | str) for value in given.report.values())

    def test_composite_leaves_the_other_pixels(
        self, model: styletryon.PoseStyleGAN2, person: styletryon.Latent, garment: styletryon.Latent, figures: Any
    ) -> None:
        options: dict[str, Any] = {"region": ANYTHING, "model": model, "preset": "fast"}
        pasted = styletryon.try_on(person, garment, **options)
        whole = styletryon.try_on(person, garment, composite=False, **options)
        original = Image.fromarray(figures[0][0])
        check_pixels(pasted, original)
        assert 0 < float(pasted.mask.mean()) < float(whole.mask.mean()) == 1
        assert np.any(np.asarray(whole.image) != np.asarray(pasted.image))

    def test_a_latent_that_lost_its_photograph_is_told_of(
        self, model: styletryon.PoseStyleGAN2, person: styletryon.Latent, garment: styletryon.Latent, tmp_path: Path
    ) -> None:
        options: dict[str, Any] = {"region": ANYTHING, "model": model, "preset": "fast"}
        lost = {}
        for name, latent in (("person", person), ("garment", garment)):
            latent.save(tmp_path / f"{name}.safetensors", photograph=False)
            lost[name] = tmp_path / f"{name}.safetensors"
        said = r"^person: expected a latent with its photograph, got .* a drawing of 24x32 pixels; project"
        for given in (lost["person"], styletryon.Latent.load(lost["person"])):
            with pytest.warns(TryOnWarning, match=said) as told:
                small = styletryon.try_on(given, garment, **options)
            assert len(told) == 1
            assert told[0].filename == __file__
            assert small.image.size == (24, 32)
        with pytest.warns(TryOnWarning, match="^garment: .* so its cloth is drawn;"):
            assert styletryon.try_on(person, lost["garment"], **options).image.size == (SIZE[1], SIZE[0])
        # Nothing is lost where none was asked for: warnings are errors here.
        styletryon.try_on(person, lost["garment"], detail=False, **options)
        styletryon.try_on(lost["person"], lost["garment"], composite=False, **options)
        styletryon.try_on(lost["person"], garment, person_pose=garment.pose, **options)

    def test_the_seed_changes_the_noise_of_quality_and_nothing_else(
        self, figures: Any, model: styletryon.PoseStyleGAN2, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        few = {name: replace(one, projection_steps=4, steps=3) for name, one in PRESETS.items()}
        monkeypatch.setattr("styletryon.tryon.presets.PRESETS", few)
        (image, pose), (other, other_pose) = figures
        for preset in PRESETS:
            first, second = (
                styletryon.try_on(
                    image,
                    other,
                    person_pose=pose,
                    garment_pose=other_pose,
                    region=ANYTHING,
                    model=model,
                    preset=preset,
                    detail=False,
                    seed=seed,
                )
                for seed in (0, 12345)
            )
            assert (first.image.tobytes() == second.image.tobytes()) == (preset != "quality")
            assert torch.equal(first.drawn, second.drawn) == (preset != "quality")

    def test_generated_people(self, model: styletryon.PoseStyleGAN2) -> None:
        latents = [styletryon.generate(seed=seed, model=model) for seed in (1, 2)]
        result = styletryon.try_on(*latents, region=ANYTHING, model=model, preset="fast")
        assert result.image.size == (model.image_size[1], model.image_size[0])

    def test_a_pose_beside_a_latent_redraws_it(
        self, model: styletryon.PoseStyleGAN2, person: styletryon.Latent, garment: styletryon.Latent
    ) -> None:
        result = styletryon.try_on(
            person, garment, person_pose=garment.pose, region=ANYTHING, model=model, preset="fast"
        )
        assert torch.equal(result.person.pose.keypoints, garment.pose.keypoints)

    def test_losses_of_ones_own(
        self, model: styletryon.PoseStyleGAN2, person: styletryon.Latent, garment: styletryon.Latent
    ) -> None:
        losses = {**styletryon.losses.defaults(), "dark": (1.0, lambda state: state.image.mean(dim=(1, 2, 3)))}
        result = styletryon.try_on(person, garment, losses=losses, region=ANYTHING, model=model, preset="fast")
        assert len(result.history["dark"]) == len(result.history["total"])
        with pytest.raises(LossError, match="expected a TryOnLoss or a callable"):
            styletryon.try_on(person, garment, losses={"mine": (1.0, 3)}, model=model)  # type: ignore[dict-item]

    def test_misspellings_are_told_before_any_work(self, model: styletryon.PoseStyleGAN2) -> None:
        with pytest.raises(RegionError, match="region: expected one of 'top'"):
            styletryon.try_on("no.jpg", "no.jpg", region="hat", model=model)
        with pytest.raises(ConfigError, match="preset: expected one of 'fast'"):
            styletryon.try_on("no.jpg", "no.jpg", preset="best", model=model)
        with pytest.raises(ImageNotFoundError, match="person: no such file"):
            styletryon.try_on("no.jpg", "no.jpg", model=model)

    def test_the_error_names_the_argument(self, model: styletryon.PoseStyleGAN2, person: styletryon.Latent) -> None:
        with pytest.raises(ImageError, match=r"^garment: expected an"):
            styletryon.try_on(person, np.zeros((32, 24)), model=model)
        bad = styletryon.Pose(torch.zeros(1, 17, 3), (20, 400))
        with pytest.raises(PoseError, match=r"^garment_pose: expected keypoints"):
            styletryon.try_on(person, np.zeros((64, 48, 3), np.uint8), garment_pose=bad, model=model)

    def test_latents_of_another_model(self, person: styletryon.Latent, garment: styletryon.Latent) -> None:
        with pytest.raises(ConfigError, match="latent of this generator"):
            styletryon.try_on(person, garment, model=tiny_generator(seed=7))

    def test_batches_belong_to_the_optimizer(
        self, model: styletryon.PoseStyleGAN2, person: styletryon.Latent, figures: Any
    ) -> None:
        poses = styletryon.Pose(torch.cat([pose.keypoints for _, pose in figures]), SIZE)
        with pytest.raises(ShapeError, match=r"garment: expected the latent of one person, got 2.*garment\[i\]"):
            styletryon.try_on(person, styletryon.generate(poses, model=model), model=model)

    def test_every_error_is_ours(self, model: styletryon.PoseStyleGAN2) -> None:
        for wrong in (None, 3, b"person.jpg", [], np.zeros((4, 4, 3), np.uint8), torch.zeros(3, 40, 40) - 9, "a\0b"):
            with pytest.raises(StyleTryOnError):
                styletryon.project(wrong, model=model)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def pictures() -> list[paperdoll.Rendering]:
    """Two people in tops whom training did not see."""
    figures = (paperdoll.sample_figure(seed) for seed in range(1_000_000_000, 1_000_000_100))
    dressed = [figure for figure in figures if paperdoll.wears(figure, "top")]
    return [paperdoll.render(figure, (512, 384)) for figure in dressed[:2]]


class TestBundled:
    """End to end, with what comes with the package."""

    def test_the_model_is_loaded_once(self) -> None:
        assert styletryon.load_model() is styletryon.load_model("default")

    def test_keypoints_are_found(self, pictures: list[paperdoll.Rendering]) -> None:
        truth = pictures[0].keypoints
        found = styletryon.estimate_pose(pictures[0].image).keypoints[0].numpy()
        seen = truth[:, 2] == 1
        assert np.median(np.linalg.norm(found[seen, :2] - truth[seen, :2], axis=1)) < 512 * 0.03

    def test_labels_are_found(self, pictures: list[paperdoll.Rendering]) -> None:
        truth = pictures[0].labels
        found = styletryon.estimate_labels(pictures[0].image)
        assert found.dtype == np.uint8
        assert found.shape == truth.shape
        assert ((found > 0) == (truth > 0)).mean() > 0.9
        pose = styletryon.estimate_pose(pictures[0].image)
        posed = styletryon.estimate_labels(pictures[0].image, pose=pose)
        assert (posed == found).mean() > 0.95
        small = styletryon.estimate_labels(pictures[0].image, pose=pose.resized((pose.size[0] // 2, pose.size[1] // 2)))
        assert np.array_equal(small, posed)

    def test_a_box_is_where_the_person_is(self, pictures: list[paperdoll.Rendering]) -> None:
        height, width = pictures[0].image.shape[:2]
        scene = np.concatenate([picture.image for picture in pictures], axis=1)
        for index in range(2):
            box = (index * width, 0, (index + 1) * width, height)
            points = styletryon.estimate_pose(scene, box=box).keypoints[0]
            shown = points[points[:, 2] > 0.3]
            assert bool(((shown[:, 0] >= box[0] - 1) & (shown[:, 0] <= box[2] + 1)).all())
            labels = styletryon.estimate_labels(scene, box=box)
            own, other = labels[:, box[0] : box[2]], labels[:, (1 - index) * width : (2 - index) * width]
            assert (own > 0).mean() > 3 * (other > 0).mean()

    def test_a_box_names_the_person_of_several(self, pictures: list[paperdoll.Rendering]) -> None:
        width = pictures[0].image.shape[1]
        scene = np.concatenate([picture.image for picture in pictures], axis=1)
        boxes = [(index * width, 0, (index + 1) * width, scene.shape[0]) for index in range(2)]
        result = styletryon.try_on(scene, scene, person_box=boxes[1], garment_box=boxes[0], preset="fast")
        changed = (np.asarray(result.image) != scene).any(axis=(0, 2))
        assert changed[width:].any()
        assert changed[: width - 20].sum() == 0  # the other stays to the pixel
        latent = styletryon.project(scene, box=boxes[0], preset="fast")
        photograph = (latent.photograph or (None,))[0]
        assert photograph is not None
        left, _, right, _ = photograph.frame.box
        assert -width < left < (left + right) / 2 < width

    @pytest.mark.parametrize("given", ["pose", "latent"])
    def test_a_box_beside_what_says_who_it_is(self, pictures: list[paperdoll.Rendering], given: str) -> None:
        picture, truth = pictures[0].image, pictures[0]
        pose = styletryon.Pose(torch.from_numpy(truth.keypoints), truth.labels.shape)
        person = picture if given == "pose" else styletryon.generate(seed=1)
        with pytest.raises(ConfigError, match="person_box: expected None beside a pose"):
            styletryon.try_on(person, picture, person_pose=pose if given == "pose" else None, person_box=(0, 0, 9, 9))
        with pytest.raises(ConfigError, match="box: expected None beside a pose"):
            styletryon.project(picture, pose=pose, box=(0, 0, 9, 9))

    def test_labels_refuse_what_pose_refuses(self, pictures: list[paperdoll.Rendering]) -> None:
        blank = np.full((120, 90, 3), 90, np.uint8)
        with pytest.raises(PersonNotFoundError, match="image: expected a photograph that shows a person"):
            styletryon.estimate_labels(blank)
        with pytest.raises(PersonNotFoundError, match="image: expected a photograph that shows a person"):
            styletryon.estimate_pose(blank, box=(0, 0, 80, 100))
        with pytest.raises(RangeError, match="box: expected left < right"):
            styletryon.estimate_labels(blank, box=(0, 0, 0, 100))
        pose = styletryon.estimate_pose(pictures[0].image)
        with pytest.raises(ConfigError, match="box: expected None beside a pose"):
            styletryon.estimate_labels(pictures[0].image, pose=pose, box=(0, 0, 9, 9))
        with pytest.raises(PoseError, match="pose: expected keypoints in a picture of"):
            styletryon.estimate_labels(blank[:, :45], pose=pose)
        with pytest.raises(ImageError, match="image"):
            styletryon.estimate_labels(np.zeros((3, 3)))

    def test_two_pictures_in_one_picture_out(self, pictures: list[paperdoll.Rendering]) -> None:
        person, garment = (picture.image for picture in pictures)
        first, second = (styletryon.try_on(person, garment, preset="fast", seed=3) for _ in range(2))
        assert np.array_equal(np.asarray(first.image), np.asarray(second.image))
        assert first.image.size == (384, 512)
        changed = (np.asarray(first.image) != person).any(axis=-1)
        assert 0.01 < changed.mean() < 0.6
        background = pictures[0].labels == 0
        assert changed[background].mean() < 0.25
        assert first.report["person_reconstruction_psnr"] > 12

    def test_generated_people_try_on_each_other(self) -> None:
        person, garment = styletryon.generate(seed=11), styletryon.generate(seed=12)
        result = styletryon.try_on(person, garment, region="full", preset="fast")
        assert np.isfinite(np.asarray(result.image)).all()
