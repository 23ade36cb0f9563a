"""The one road of a photograph: read, projected, dressed, shown; and dressed again."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor

import styletryon
from styletryon import TryOnPipeline, TryOnResult, pipeline
from styletryon.data import paperdoll
from styletryon.errors import ConfigError, ImageNotFoundError, PersonNotFoundError, PoseError, RangeError, ShapeError
from styletryon.labels import REGIONS, Label
from styletryon.latent import Latent, stack
from styletryon.metrics import measures
from styletryon.models import GeneratorConfig, PoseStyleGAN2
from styletryon.photo import Frame, Photograph, to_uint8
from styletryon.pipeline import STAGES, PipelineProgress, wears_dress
from styletryon.pose import Pose
from tests._support.fake_generator import FakeGenerator
from tests._support.process import ROOT
from tests._support.tiny import tiny_generator

SIZE = (256, 192)
CONFIG = GeneratorConfig((64, 48), (8, 8, 8, 8, 8), z_dim=8, w_dim=8, mapping_layers=2, pose_channels=4)
ANYTHING = range(1, 12)
"""A region that an untrained generator's segmentation is sure to show."""


@pytest.fixture(scope="module")
def figure() -> paperdoll.Rendering:
    return paperdoll.render(paperdoll.sample_figure(3), SIZE)


@pytest.fixture(scope="module")
def other() -> paperdoll.Rendering:
    return paperdoll.render(paperdoll.sample_figure(4), SIZE)


def pose_of(figure: paperdoll.Rendering) -> Pose:
    return Pose(torch.from_numpy(figure.keypoints), SIZE)


def read(figure: paperdoll.Rendering, background: tuple[int, ...] = (), *, dressed: bool = False) -> Photograph:
    pipeline = TryOnPipeline(PoseStyleGAN2(replace(CONFIG, background=background)))
    return pipeline.read(Image.fromarray(figure.image), pose=pose_of(figure), dressed=dressed)


def dress(pipeline: TryOnPipeline, *figures: paperdoll.Rendering, **options: Any) -> TryOnResult:
    person, garment = figures
    poses = {"person_pose": pose_of(person), "garment_pose": pose_of(garment)}
    return pipeline(person.image, garment.image, region=ANYTHING, **poses, **options)


# ----------------------------------------------------------------------------------------------------------- reading


def test_people_are_cut_out_for_a_generator_that_knows_one_background(figure: paperdoll.Rendering) -> None:
    own, cut = read(figure), read(figure, (255, 0, 0))
    red = torch.tensor([1.0, -1.0, -1.0])
    assert torch.allclose(cut.target[:, 0, 0], red, atol=0.02)
    assert not torch.allclose(own.target[:, 0, 0], red, atol=0.5)
    assert cut.target_labels is not None
    assert cut.target_labels[30, 24] != Label.BACKGROUND
    assert torch.allclose(cut.target[:, 30, 24], own.target[:, 30, 24], atol=0.1)
    # The photograph itself, into which the result is pasted, keeps its own.
    assert np.array_equal(np.asarray(cut.picture), figure.image)
    assert torch.equal(cut.crop, own.crop)


def test_somebody_in_a_dress_wears_no_top(figure: paperdoll.Rendering) -> None:
    plain, dressed = (read(figure, dressed=worn).target_labels for worn in (False, True))
    assert plain is not None
    assert dressed is not None
    assert set(np.unique(plain)) & {Label.TOP, Label.BOTTOM}
    assert not set(np.unique(dressed)) & {Label.TOP, Label.BOTTOM}
    assert Label.DRESS in dressed
    assert wears_dress("dress")
    assert not wears_dress("full")
    assert not wears_dress("top")


def test_labels_that_see_nobody_are_no_help(figure: paperdoll.Rendering) -> None:
    pipeline, photograph = TryOnPipeline(PoseStyleGAN2(CONFIG)), read(figure)
    helpful = pipeline._helpful_labels(photograph)
    assert helpful is not None
    assert helpful.dtype == torch.int64
    assert np.array_equal(helpful.numpy(), photograph.target_labels)
    nobody = replace(photograph, labels=np.zeros(SIZE, np.uint8))
    assert pipeline._helpful_labels(nobody) is None
    assert pipeline._helpful_labels(replace(photograph, labels=None)) is None


def test_a_photograph_knows_pose_and_labels(figure: paperdoll.Rendering) -> None:
    photograph = read(figure)
    assert photograph.pose is not None
    assert photograph.pose.size == SIZE
    assert photograph.labels is not None
    assert photograph.labels.shape == SIZE
    assert photograph.frame_pose is not None
    assert photograph.frame_pose.size == (64, 48)


def test_what_is_wrong_is_called_by_its_callers_name(figure: paperdoll.Rendering) -> None:
    pipeline = TryOnPipeline(PoseStyleGAN2(CONFIG))
    with pytest.raises(PoseError, match=r"person_pose: expected a styletryon.Pose of 17 keypoints, got list") as caught:
        pipeline.read(figure.image, pose=figure.keypoints.tolist(), name="person")
    assert caught.value.argument == "person_pose"
    with pytest.raises(PoseError, match=r"^pose: expected keypoints in a picture of 256x192"):
        pipeline.read(figure.image, pose=Pose(figure.keypoints, (256, 256)))
    with pytest.raises(ConfigError, match="garment_box: expected None beside a pose"):
        pipeline.read(figure.image, pose=pose_of(figure), box=(0, 0, 9, 9), name="garment")
    with pytest.raises(ImageNotFoundError) as missing:
        pipeline.read("nowhere.png", name="garment")
    assert missing.value.argument == "garment"
    with pytest.raises(PoseError, match="photographs: expected photographs whose poses are known"):
        pipeline.project_photographs([replace(read(figure), pose=None)])


def test_the_network_of_poses_and_labels_is_where_the_generator_is() -> None:
    assert TryOnPipeline(tiny_generator()).body.network.position.device.type == "cpu"
    pipeline = TryOnPipeline(tiny_generator(), device="meta")
    assert pipeline.device.type == "meta"
    assert pipeline.body.network.position.device.type == "meta"


# -------------------------------------------------------------------------------------------------------- projecting


def test_side_by_side_is_as_one_by_one(figure: paperdoll.Rendering, other: paperdoll.Rendering) -> None:
    """Up to the last bits at the start, which the steps enlarge; neither is nearer to the picture."""
    pipeline = TryOnPipeline()
    pipeline.projector.learning_rate = 0.02  # so that five steps stay where rounding is not amplified
    pipeline.projector.steps = 0
    photographs = [pipeline.read(each.image, pose=pose_of(each)) for each in (figure, other)]
    for steps, bound in ((0, 1e-4), (5, 2e-3)):
        pipeline.projector.steps = steps
        together = pipeline.project_photographs(photographs)
        alone = [pipeline.project_photographs([photograph])[0] for photograph in photographs]
        for one, two in zip(together, alone, strict=True):
            assert one.photograph == two.photograph
            apart = max(float((a - b).abs().max()) for a, b in zip(one.styles, two.styles, strict=True))
            assert apart < bound
            assert abs(one.report["reconstruction_psnr"] - two.report["reconstruction_psnr"]) < 0.05


def test_both_pictures_are_projected_at_once(
    figure: paperdoll.Rendering, other: paperdoll.Rendering, projected: list[int]
) -> None:
    dress(TryOnPipeline(tiny_generator(), preset="fast"), figure, other)
    assert projected == [2]


def test_those_without_helpful_labels_are_projected_apart(
    figure: paperdoll.Rendering, other: paperdoll.Rendering, projected: list[int]
) -> None:
    pipeline = TryOnPipeline(tiny_generator(), preset="fast")
    photographs = [pipeline.read(each.image, pose=pose_of(each)) for each in (figure, other, figure)]
    photographs[1] = replace(photographs[1], labels=None)
    latents = pipeline.project_photographs(photographs)
    assert projected == [2, 1]
    assert [latent.photograph for latent in latents] == [(photograph,) for photograph in photographs]


def test_a_picture_is_projected_once(
    figure: paperdoll.Rendering, other: paperdoll.Rendering, projected: list[int]
) -> None:
    pipeline = TryOnPipeline(tiny_generator(), preset="fast", remember=2)
    first = dress(pipeline, figure, other)
    again = dress(pipeline, figure, other)
    assert projected == [2]
    assert np.array_equal(np.asarray(first.image), np.asarray(again.image))
    assert again.report["seconds_project"] < first.report["seconds_project"]
    quick = pipeline.with_preset("balanced")
    assert quick.model is pipeline.model
    dress(quick, figure, other)
    assert projected == [2, 2]
    dress(pipeline, figure, other)  # the two of the other preset have taken their place
    assert projected == [2, 2, 2]
    nothing = TryOnPipeline(tiny_generator(), preset="fast", remember=0)
    for _ in range(2):
        dress(nothing, figure, other)
    assert projected == [2, 2, 2, 2, 2]
    with pytest.raises(RangeError, match="remember: expected a whole number of at least 0, got -1"):
        TryOnPipeline(tiny_generator(), remember=-1)
    with pytest.raises(ConfigError, match="preset: expected one of 'fast'"):
        pipeline.with_preset("best")


@pytest.mark.slow
def test_a_seed_moves_the_drawing_and_not_what_is_shown_between_photographs() -> None:
    """So there is no `num_images=`: the pages say it too."""
    person, garment = (paperdoll.render(paperdoll.sample_figure(seed), SIZE) for seed in (20_000_010, 20_000_008))
    poses = {"person_pose": pose_of(person), "garment_pose": pose_of(garment)}
    results = []
    for seed in (0, 1):
        pipeline = TryOnPipeline(preset="quality", seed=seed)
        pipeline.projector.steps = pipeline.optimizer.steps = 5
        results.append(pipeline(person.image, garment.image, **poses))
    shown, drawn = ([np.asarray(getattr(one, name)) for one in results] for name in ("image", "drawn"))
    assert not np.array_equal(*drawn)
    assert np.array_equal(*shown)


# ---------------------------------------------------------------------------------------------- progress and seconds


def test_the_seconds_of_the_stages_are_those_of_the_call(
    figure: paperdoll.Rendering, other: paperdoll.Rendering
) -> None:
    pipeline = TryOnPipeline(tiny_generator(), preset="balanced")
    began = time.perf_counter()
    report = dress(pipeline, figure, other).report
    took = time.perf_counter() - began
    seconds = {stage: float(report[f"seconds_{stage}"]) for stage in STAGES}
    assert all(value > 0 for value in seconds.values())
    assert report["seconds"] == pytest.approx(sum(seconds.values()))
    assert 0.9 * took < float(report["seconds"]) <= took


def test_progress_covers_all_stages(figure: paperdoll.Rendering, other: paperdoll.Rendering) -> None:
    told: list[PipelineProgress] = []
    dress(TryOnPipeline(tiny_generator(), preset="fast"), figure, other, progress=told.append)
    assert tuple(dict.fromkeys(news.stage for news in told)) == STAGES
    for stage in STAGES:
        steps = [news.step for news in told if news.stage == stage]
        assert steps == sorted(steps)
        last = [news for news in told if news.stage == stage][-1]
        assert last.step == last.steps


@pytest.mark.parametrize("stage", STAGES)
def test_a_callback_that_raises_ends_the_work(
    figure: paperdoll.Rendering, other: paperdoll.Rendering, stage: str
) -> None:
    class Enough(Exception):
        pass

    def tell(news: PipelineProgress) -> None:
        if news.stage == stage:
            raise Enough

    road = TryOnPipeline(tiny_generator(), preset="fast")
    with pytest.raises(Enough):
        dress(road, figure, other, progress=tell)
    assert dress(road, figure, other).image.size == (figure.image.shape[1], figure.image.shape[0])  # and hurts nothing


def test_a_bar_shows_every_stage(
    figure: paperdoll.Rendering, other: paperdoll.Rendering, capsys: pytest.CaptureFixture[str]
) -> None:
    dress(TryOnPipeline(tiny_generator(), preset="fast"), figure, other, progress=True)
    shown = capsys.readouterr()
    assert shown.out == ""
    for text in ("projecting", "dressing", "composing"):
        assert text in shown.err


# ------------------------------------------------------------------------------------------------ foreign generators


@pytest.mark.filterwarnings("ignore::styletryon.errors.TryOnWarning")  # it draws no people
def test_a_foreign_generator_goes_the_whole_road(figure: paperdoll.Rendering, other: paperdoll.Rendering) -> None:
    """An object that derives from nothing of ours and has none of the optional parts but `to`."""
    generator = FakeGenerator()
    result = styletryon.try_on(
        figure.image, other.image, person_pose=pose_of(figure), garment_pose=pose_of(other), region="top",
        model=generator, preset="fast",
    )  # fmt: skip
    assert result.image.size == (192, 256)
    assert (np.asarray(result.image) != figure.image).any()
    assert result.latent.model == generator.fingerprint
    again = styletryon.try_on(result, other.image, garment_pose=pose_of(other), model=generator, preset="fast")
    assert again.image.size == (192, 256)
    assert styletryon.load_model(generator) is generator
    made = styletryon.generate(seed=3, model=generator)
    assert made.pose.size == generator.image_size


class Bare:
    """A generator with no part beside those of the protocol."""

    def __init__(self) -> None:
        self._inner = FakeGenerator()

    def __getattr__(self, name: str) -> Any:
        if name in {"to", "encode_pose", "tuned", "capturable", "background"}:
            raise AttributeError(name)
        return getattr(self._inner, name)


def test_optional_parts_may_be_missing(figure: paperdoll.Rendering, other: paperdoll.Rendering) -> None:
    model: Any = Bare()
    result = dress(TryOnPipeline(model, preset="fast"), figure, other)
    assert result.image.size == (192, 256)
    with pytest.raises(ConfigError, match="device: expected 'cpu', where the Bare is, got 'meta'; it has no method"):
        styletryon.load_model(model, device="meta")
    with pytest.raises(ConfigError, match="tune: Bare cannot be tuned"):
        styletryon.project(figure.image, pose=pose_of(figure), model=model, preset="fast", tune=True)


@pytest.mark.parametrize(
    "call",
    [styletryon.load_model, TryOnPipeline, lambda model: styletryon.try_on("no.jpg", "no.jpg", model=model)],
    ids=["load_model", "TryOnPipeline", "try_on"],
)
def test_what_is_no_generator_is_told_what_it_lacks(call: Callable[[Any], object]) -> None:
    class Half:
        image_size = (32, 24)

        def mapping(self, z: Tensor) -> Tensor:
            return z

    half: Any = Half()
    message = r"model: expected a name, a folder or an object .* got Half without .*synthesize"
    with pytest.raises(ConfigError, match=message):
        call(half)


# ---------------------------------------------------------------------------------------------------- dressing again


class Wardrobe:
    """Rendered people whom no training saw, and what the bundled generator makes of them."""

    def __init__(self) -> None:
        seeds = range(1_000_000_000, 1_000_000_100)
        figures = [figure for figure in map(paperdoll.sample_figure, seeds) if paperdoll.wears(figure, "top")]
        self.people = [paperdoll.render(figure, SIZE) for figure in figures[:4]]
        self.pipeline = TryOnPipeline(preset="fast")
        photographs = [self.pipeline.read(each.image, pose=pose_of(each)) for each in self.people]
        self.latents = list(self.pipeline.project_photographs(photographs))
        self.top = self.wear(self.latents[0], 1, "top")
        self.bottom_on_top = self.wear(self.top, 2, "bottom")

    def wear(self, worn: TryOnResult | Latent, garment: int, region: str) -> TryOnResult:
        return self.pipeline(worn, self.latents[garment], region=region)


@pytest.fixture(scope="module")
def wardrobe() -> Wardrobe:
    return Wardrobe()


def apart(first: Image.Image, second: Image.Image) -> NDArray[np.float64]:
    """How far two pictures lie apart at each pixel, 0 to 255."""
    return np.abs(np.asarray(first).astype(np.float64) - np.asarray(second)).max(axis=-1)


def check_kept(first: TryOnResult, second: TryOnResult, region: str) -> None:
    """Check that what the first try-on put on is there after the second, beside the garment of the second's region."""
    assert second.person_image is first.image
    assert second.image.size == first.image.size
    new = np.isin(second.segmentation, list(REGIONS[region]))
    worn = (apart(first.image, first.person_image) > 16) & ~new
    assert worn.mean() > 0.02
    kept, lost = apart(second.image, first.image)[worn].mean(), apart(second.image, first.person_image)[worn].mean()
    assert kept < 0.15 * lost
    untouched = apart(second.image, first.image) == 0
    assert untouched.mean() > 0.5  # of the photograph's pixels, bit for bit
    assert (apart(second.image, first.image) > 16).mean() > 0.01  # and the second garment is there


def test_top_then_bottom(wardrobe: Wardrobe) -> None:
    top = wardrobe.top
    check_kept(top, wardrobe.bottom_on_top, "bottom")
    by_latent = wardrobe.wear(top.latent, 2, "bottom")
    assert np.array_equal(np.asarray(by_latent.image), np.asarray(wardrobe.bottom_on_top.image))


def test_bottom_then_top(wardrobe: Wardrobe) -> None:
    bottom = wardrobe.wear(wardrobe.latents[0], 2, "bottom")
    check_kept(bottom, wardrobe.wear(bottom, 1, "top"), "top")


def test_thrice(wardrobe: Wardrobe) -> None:
    top, both = wardrobe.top, wardrobe.bottom_on_top
    third = wardrobe.wear(both, 3, "top")
    check_kept(both, third, "top")
    # The third garment takes the place of the first.
    worn = apart(top.image, top.person_image) > 16
    assert apart(third.image, top.image)[worn].mean() > 16


def test_what_is_known_of_a_photograph_follows_the_garment(wardrobe: Wardrobe) -> None:
    result = wardrobe.top
    (before,), (after,) = result.person.photograph or (None,), result.latent.photograph or (None,)
    assert before is not None
    assert before.labels is not None
    assert after is not None
    assert after.labels is not None
    assert after.picture is result.image
    assert (after.frame, after.pose) == (before.frame, before.pose)
    same = apart(after.picture, before.picture) == 0
    unlike = after.labels != before.labels
    assert 0 < unlike.mean() < 0.3
    # Where nothing was changed the labels stay; a pixel of the drawing covers several of the photograph.
    assert (unlike & same).sum() < 0.2 * unlike.sum()
    drawn = np.isin(result.segmentation, [Label.TOP, Label.OUTERWEAR])
    assert np.isin(after.labels, [Label.TOP, Label.OUTERWEAR])[drawn].mean() > 0.8


def test_a_result_may_give_its_garment(wardrobe: Wardrobe) -> None:
    top = wardrobe.top
    passed_on = wardrobe.pipeline(wardrobe.latents[3], top, region="top")
    assert passed_on.garment_image is top.image
    assert passed_on.image.size == SIZE[::-1]


def test_latents_of_several_people_are_refused(wardrobe: Wardrobe) -> None:
    several = stack(wardrobe.latents)
    with pytest.raises(ShapeError, match=r"garment: expected the latent of one person, got 4.*garment\[i\]"):
        wardrobe.pipeline(wardrobe.latents[0], several)


# ------------------------------------------------------------------------------------------------- the bundled model


def test_a_background_makes_no_other_generator() -> None:
    """Latents of the one are latents of the other: what stands behind people changes no drawing."""
    generator = PoseStyleGAN2(CONFIG)
    known = PoseStyleGAN2(replace(CONFIG, background=(0, 0, 0)))
    known.load_state_dict(generator.state_dict())
    assert known.fingerprint == generator.fingerprint


def test_the_documented_numbers_are_of_the_bundled_weights() -> None:
    results = (ROOT / "docs/evaluation.md").read_text(encoding="utf-8")
    assert f"--seed 7`, model fingerprint {styletryon.load_model().fingerprint}" in results


def test_the_large_generator_draws_figures_at_its_size() -> None:
    large = styletryon.load_model("large", device="cpu")
    assert large.image_size == (256, 192)
    card = (ROOT / "src/styletryon/weights/large/README.md").read_text(encoding="utf-8")
    assert f"fingerprint {large.fingerprint}" in card
    figure = paperdoll.render(paperdoll.sample_figure(2_000_000), (256, 192))
    images = torch.from_numpy(figure.image).permute(2, 0, 1)[None].float() / 127.5 - 1
    assert large.encoder is not None
    pose = Pose(torch.from_numpy(figure.keypoints)[None], (256, 192))
    with torch.no_grad():
        drawing = large.synthesize(large.affine(large.encoder(images, pose)), pose)
    drawn = to_uint8(drawing.image[0].permute(1, 2, 0)).numpy()
    assert measures.masked_psnr(drawn, figure.image, measures.foreground(figure.labels)) > 15
    assert float((drawing.labels[0].numpy() == figure.labels).mean()) > 0.9


@pytest.mark.parametrize("background", [(1, 2), (0, 0, 256), (-1, 0, 0)])
def test_a_background_is_a_colour(background: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match="background: expected three numbers from 0 to 255 or none"):
        replace(CONFIG, background=background)


# ----------------------------------------------------------------------------------------------- garments by themselves


def test_a_garment_that_nobody_wears_is_told_as_such() -> None:
    shirt = Image.new("RGB", (240, 320), "white")
    ImageDraw.Draw(shirt).polygon(
        [(60, 60), (100, 50), (140, 50), (180, 60), (225, 120), (195, 140), (175, 115), (175, 280), (65, 280),
         (65, 115), (45, 140), (15, 120)], fill=(180, 30, 40),
    )  # fmt: skip
    pipeline = TryOnPipeline(tiny_generator())
    with pytest.raises(PersonNotFoundError, match=r"^garment: .* who wears the garment, .* garment_worn") as told:
        pipeline.read(shirt, name="garment")
    assert "\n" not in str(told.value)
    with pytest.raises(PersonNotFoundError, match=r"^person: expected a photograph that shows a person"):
        pipeline.read(shirt, name="person")


def test_each_garment_of_an_outfit_may_be_worn_or_not(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Any] = []

    class Enough(Exception):
        """What was given is known."""

    def find(pipeline: TryOnPipeline, given: Any, watch: Any) -> Any:
        told.extend(one.worn for one in given)
        raise Enough

    monkeypatch.setattr(TryOnPipeline, "_find", find)
    pipeline = TryOnPipeline(tiny_generator())
    outfit = {"bottom": "b.png", "top": "a.png", "outerwear": "c.png"}
    for said, expected in (
        ({"outerwear": True, "top": False}, [None, False, True]), (True, [True] * 3), (None, [None] * 3)
    ):  # fmt: skip
        told.clear()
        with pytest.raises(Enough):
            pipeline("person.png", outfit, garment_worn=said)
        assert told == [True, *expected]
    with pytest.raises(ConfigError, match=r"^garment_worn: expected regions of the outfit"):
        pipeline("person.png", outfit, garment_worn={"dress": True})
    for garment, wrong in (("a.png", {"top": True}), ("a.png", "no"), (outfit, {"top": "no"})):
        with pytest.raises(ConfigError, match=r"^garment_worn: expected True, False, or None"):
            pipeline("person.png", garment, garment_worn=wrong)  # type: ignore[arg-type]


def test_in_a_large_photograph_the_person_is_looked_for_at_a_bounded_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pose and labels are those of the small picture, at the large one's size."""
    small = Image.fromarray(paperdoll.render(paperdoll.sample_figure(3), (128, 96)).image)
    large = small.resize((3 * 96 - 1, 3 * 128 - 2), Image.Resampling.NEAREST, box=(0, 0, 96 - 1 / 3, 128 - 2 / 3))
    estimator = pipeline.body_estimator(torch.device("cpu"))
    pose, labels = pipeline.find_body(estimator, small, None)
    monkeypatch.setattr(pipeline, "_LOOKED_AT", 128 * 96)
    found, spread = pipeline.find_body(estimator, large, None)
    assert found.size == spread.shape == (large.height, large.width)
    seen = (pose.keypoints[0, :, 2] > 0.5) & (found.keypoints[0, :, 2] > 0.5)
    assert float((found.keypoints[0, seen, :2] / 3 - pose.keypoints[0, seen, :2]).abs().max()) < 1.5
    assert float((spread[1::3, 1::3] == labels[: len(spread[1::3]), : spread[1::3].shape[1]]).mean()) > 0.98
    boxed, _ = pipeline.find_body(estimator, large, (-9, -9, 1e6, 1e6))
    assert torch.equal(boxed.keypoints, found.keypoints)
    again = pipeline.find_labels(estimator, large, found)
    assert again.shape == spread.shape
    assert float((again == spread).mean()) > 0.95
    with pytest.raises(RangeError, match="within a picture of 287x382"):
        pipeline.find_body(estimator, large, (300, 0, 310, 9))


def test_labels_of_large_photographs_are_cropped_from_some_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    from styletryon.photo import resampling

    labels = np.zeros((640, 480), np.uint8)
    labels[200:500, 101:333] = 4
    labels[:150, 200:260] = 2
    frame = Frame((-11.5, 20.25, 468.5, 660.25), (640, 480), (32, 24))
    whole = resampling.crop_labels(labels, frame)
    monkeypatch.setattr(resampling, "_LABELS_AT_ONCE", 20_000)
    some = resampling.crop_labels(labels, frame)
    assert some.shape == whole.shape
    assert float((some == whole).mean()) > 0.98
