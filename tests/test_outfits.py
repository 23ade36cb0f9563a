"""Several garments at once: the order in which they are worn, what cannot be worn together, and what comes of it."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import styletryon
from styletryon import TryOnPipeline, TryOnResult
from styletryon.compositing.blending import compose
from styletryon.data import paperdoll
from styletryon.errors import ConfigError, ImageNotFoundError, RegionError, ShapeError, TryOnWarning
from styletryon.labels import REGIONS, Label, order_worn, title
from styletryon.latent import stack
from styletryon.pipeline import PipelineProgress
from styletryon.pose import Pose
from styletryon.tryon.layers import Shows

SIZE = (256, 192)

# ------------------------------------------------------------------------------------------------------------- rules


@pytest.mark.parametrize(
    "worn",
    [
        ("bottom", "top", "outerwear"),
        ("legwear", "dress", "outerwear", "shoes", "accessory"),
        ("full", "outerwear"),
        ("bottom", frozenset({Label.TOP}), frozenset({Label.OUTERWEAR, Label.ACCESSORY})),
        ("top",),
    ],
)
def test_what_is_inside_comes_first_in_whatever_order_it_is_given(worn: tuple[Any, ...]) -> None:
    for given in itertools.permutations(worn):
        assert order_worn(given) == worn


@pytest.mark.parametrize(
    ("together", "named"),
    [
        (("dress", "bottom"), ("'dress'", "'bottom'", "place of bottom;")),
        (("bottom", "one-pieces"), ("'one-pieces'", "'bottom'", "place of bottom;")),
        (("top", "dress"), ("'dress'", "'top'", "outerwear and top;")),
        (("top", "upper_body"), ("'top'", "'upper_body'", "outerwear and top;")),
        (("outerwear", (Label.OUTERWEAR,)), ("'outerwear'", "place of outerwear;")),
        (("full", "shoes"), ("'full'", "'shoes'", "place of shoes;")),
        (("full", "dress"), ("'full'", "'dress'")),
    ],
)
def test_what_takes_the_place_of_another_is_refused_by_name(together: tuple[Any, ...], named: tuple[str, ...]) -> None:
    for given in itertools.permutations(together):
        with pytest.raises(RegionError, match=r"^garment: expected garments that can be worn together") as told:
            order_worn(given)
        assert told.value.argument == "garment"
        for text in named:
            assert text in str(told.value)


def test_no_garment_is_no_outfit() -> None:
    with pytest.raises(RegionError, match="garment: expected at least one garment, got none"):
        order_worn(())
    with pytest.raises(RegionError, match="expected one of 'top'"):
        order_worn(["top", "hat"])


def test_one_title_for_all_that_names_a_region() -> None:
    assert {title(region) for region in ("top", "Upper-Body", {"top", "outerwear"}, (4, 5))} == {"top"}
    assert title("outerwear") == title({Label.OUTERWEAR}) == "outerwear"
    assert title("TOP, legwear") == title((Label.LEGWEAR, Label.TOP)) == "legwear+top"


# ------------------------------------------------------------------------------------------------------------ dressing


class Wardrobe:
    """Rendered people whom no training saw, of whom the second wears a jacket, and the bundled generator."""

    def __init__(self) -> None:
        seeds = range(1_000_000_000, 1_000_000_200)
        figures = [figure for figure in map(paperdoll.sample_figure, seeds) if paperdoll.wears(figure, "top")]
        plain = [figure for figure in figures if figure.outfit.outerwear is None]
        coat = next(figure for figure in figures if figure.outfit.outerwear is not None)
        self.people = [paperdoll.render(figure, SIZE) for figure in (plain[0], coat, *plain[1:3])]
        self.pipeline = TryOnPipeline(preset="fast")
        photographs = [self.pipeline.read(each.image, pose=pose_of(each)) for each in self.people]
        photographs = [
            replace(photograph, labels=person.labels)
            for photograph, person in zip(photographs, self.people, strict=True)
        ]
        self.person, self.coat, self.top, self.bottom = self.pipeline.project_photographs(photographs)
        self.worn = {"outerwear": self.coat, "top": self.top, "bottom": self.bottom}
        self.result = self.pipeline(self.person, self.worn)
        self.links = self.chain()

    def chain(self, **options: Any) -> list[TryOnResult]:
        """One garment after another, by hand."""
        results: list[TryOnResult] = []
        for region, garment in (("bottom", self.bottom), ("top", self.top), ("outerwear", self.coat)):
            worn = results[-1] if results else self.person
            results.append(self.pipeline(worn, garment, region=region, **options))
        return results


@pytest.fixture(scope="module")
def wardrobe() -> Wardrobe:
    return Wardrobe()


def pose_of(figure: paperdoll.Rendering) -> Pose:
    return Pose(torch.from_numpy(figure.keypoints), SIZE)


def same(first: TryOnResult, second: TryOnResult) -> bool:
    """Whether two try-ons are one bit for bit, as they are shown and as they can be dressed again."""
    pictures = np.array_equal(np.asarray(first.image), np.asarray(second.image))
    labels = np.array_equal(first.segmentation, second.segmentation)
    styles = zip(first.latent.styles, second.latent.styles, strict=True)
    return pictures and labels and all(torch.equal(one, other) for one, other in styles)


def test_it_is_one_garment_after_another_bit_for_bit(wardrobe: Wardrobe) -> None:
    chain = wardrobe.links
    assert same(wardrobe.result, chain[-1])
    assert list(wardrobe.result.outfit) == ["bottom", "top", "outerwear"]
    for one, other in zip(wardrobe.result.outfit.values(), chain, strict=True):
        assert same(one, other)
    assert not same(chain[0], chain[1])
    assert not same(chain[1], chain[2])


@pytest.mark.parametrize("options", [{"detail": False}, {"composite": False}])
def test_it_is_so_as_drawn_too(wardrobe: Wardrobe, options: dict[str, bool]) -> None:
    result = wardrobe.pipeline(wardrobe.person, wardrobe.worn, **options)
    assert same(result, wardrobe.chain(**options)[-1])
    assert result.layers() is None


def test_the_order_of_the_keys_makes_no_difference(wardrobe: Wardrobe) -> None:
    given = {key: wardrobe.worn[title(key)] for key in ("upper_body", "bottoms", "outerwear")}
    result = wardrobe.pipeline(wardrobe.person, given)
    assert same(result, wardrobe.result)
    assert list(result.outfit) == ["bottom", "top", "outerwear"]


def test_one_garment_is_an_outfit_of_one(wardrobe: Wardrobe) -> None:
    one = wardrobe.pipeline(wardrobe.person, {"bottom": wardrobe.bottom})
    assert same(one, wardrobe.links[0])
    assert one.outfit == {}


def test_the_result_is_of_the_person_as_given(wardrobe: Wardrobe) -> None:
    result = wardrobe.result
    assert result.person is wardrobe.result.outfit["bottom"].person
    assert np.array_equal(np.asarray(result.person_image), wardrobe.people[0].image)
    panels = 5  # the person, three garments, the try-on
    assert result.figure(height=SIZE[0]).width == panels * SIZE[1] + (panels - 1) * 8
    unchanged = (result.mask <= 0).cpu()
    assert unchanged.float().mean() > 0.2
    assert all(bool((one.mask.cpu()[unchanged] <= 0).all()) for one in result.outfit.values())
    again = wardrobe.pipeline(result, wardrobe.coat, region="bottom")
    assert again.person_image is result.image


def test_the_layers_of_each_lie_over_those_before(wardrobe: Wardrobe) -> None:
    picture = wardrobe.result.person_image
    for one in wardrobe.result.outfit.values():
        layers = one.layers()
        assert layers is not None
        picture = layers.laid_over(picture)
    assert np.array_equal(np.asarray(picture), np.asarray(wardrobe.result.image))
    assert wardrobe.result.layers() is wardrobe.result.outfit["outerwear"].layers()


def test_one_report_has_the_numbers_of_all(wardrobe: Wardrobe) -> None:
    report = wardrobe.result.report
    stages = [value for name, value in report.items() if name.startswith("seconds_")]
    assert report["seconds"] == pytest.approx(sum(map(float, stages)))
    for name, one in wardrobe.result.outfit.items():
        assert report[f"{name}_loss_total"] == one.report["loss_total"]
        assert report[f"{name}_steps"] == one.report["steps"]
        assert f"{name}: {one.report['status']}" in str(report["status"])
        garment = wardrobe.worn[name].report["reconstruction_psnr"]
        assert report[f"{name}_garment_reconstruction_psnr"] == garment
    assert report["person_reconstruction_psnr"] == wardrobe.person.report["reconstruction_psnr"]
    apart = [float(one.report["changed_share"]) for one in wardrobe.result.outfit.values()]
    assert max(apart) < float(report["changed_share"]) <= sum(apart)
    assert 0 <= float(report["outside_change"]) < 0.1


def test_what_each_garment_covers_is_labelled(wardrobe: Wardrobe) -> None:
    shown = wardrobe.result.segmentation
    for label in (Label.TOP, Label.BOTTOM, Label.OUTERWEAR):
        assert (shown == label).mean() > 0.01


def test_outerwear_lies_over_the_top_that_stays(wardrobe: Wardrobe) -> None:
    before, after = (wardrobe.result.outfit[name] for name in ("top", "outerwear"))
    top = before.segmentation == Label.TOP
    covered = top & (after.segmentation == Label.OUTERWEAR)
    assert covered.sum() > 0.2 * top.sum()
    apart = np.abs(np.asarray(after.image).astype(int) - np.asarray(before.image)).max(axis=-1)
    assert (apart[covered] > 8).mean() > 0.8
    still = after.segmentation == Label.TOP  # where the coat is open, under its own label
    assert still.sum() > 0
    assert Label.DRESS not in after.segmentation


def test_several_people_are_dressed_side_by_side(wardrobe: Wardrobe) -> None:
    people = stack([wardrobe.person, wardrobe.coat])
    told: list[PipelineProgress] = []
    batch = wardrobe.pipeline.optimize(
        people, {"top": wardrobe.top, "bottom": stack([wardrobe.bottom, wardrobe.person])}, progress=told.append
    )
    assert len(batch) == 2
    assert [title(one.targets.region) for one in batch.outfit] == ["bottom", "top"]
    steps = [one.step for one in told]
    assert steps == list(range(1, len(steps) + 1))
    assert {one.steps for one in told} == {steps[-1]}
    for place, alone in enumerate((wardrobe.person, wardrobe.coat)):
        result = wardrobe.pipeline.show(batch, place)
        assert list(result.outfit) == ["bottom", "top"]
        assert torch.equal(result.person.styles[0], alone.styles[0])
        assert np.array_equal(np.asarray(result.person_image), wardrobe.people[place].image)
    by_hand = wardrobe.pipeline(wardrobe.person, {"top": wardrobe.top, "bottom": wardrobe.bottom})
    first = np.asarray(wardrobe.pipeline.show(batch, 0).image).astype(int)
    assert np.abs(first - np.asarray(by_hand.image)).mean() < 1
    with pytest.raises(IndexError):
        wardrobe.pipeline.show(batch, 2)


def test_drawn_people_wear_outfits_too(wardrobe: Wardrobe) -> None:
    person, garment = (replace(latent, photograph=None, report={}) for latent in (wardrobe.person, wardrobe.top))
    result = wardrobe.pipeline(person, {"top": garment, "bottom": wardrobe.bottom})
    assert result.layers() is None
    assert result.image.size == result.person_image.size
    assert same(result, wardrobe.pipeline(wardrobe.pipeline(person, wardrobe.bottom, region="bottom"), garment))


# ------------------------------------------------------------------------------------------------------- photographs


def test_each_picture_is_looked_at_and_projected_once(
    wardrobe: Wardrobe, projected: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[Any] = []
    plain = TryOnPipeline._frame
    monkeypatch.setattr(TryOnPipeline, "_frame", lambda *given: looked.append(given) or plain(*given))
    person, _, top, bottom = wardrobe.people
    pictures = {"top": top.image, "bottom": bottom.image}
    poses = {"bottom": pose_of(bottom), "top": pose_of(top)}
    result = styletryon.try_on(
        person.image, pictures, person_pose=pose_of(person), garment_pose=poses, preset="fast"
    )
    assert projected == [3]
    assert len(looked) == 3
    assert list(result.outfit) == ["bottom", "top"]
    stages = [value for name, value in result.report.items() if name.startswith("seconds_")]
    assert result.report["seconds"] == pytest.approx(sum(map(float, stages)))


def test_who_wears_both_garments_is_projected_once(wardrobe: Wardrobe, projected: list[int]) -> None:
    person, _, other, _ = wardrobe.people
    pose = pose_of(other)
    styletryon.try_on(
        person.image, {"top": other.image, "bottom": other.image.copy()}, preset="fast", person_pose=pose_of(person),
        garment_pose={"upper_body": pose, "bottom": pose},
    )  # fmt: skip
    assert projected == [2]


def test_what_is_wrong_with_a_garment_is_told_by_its_region(wardrobe: Wardrobe) -> None:
    pipeline, person, top = wardrobe.pipeline, wardrobe.person, wardrobe.top
    with pytest.raises(ImageNotFoundError, match=r"^garment\['bottom'\]: no such file"):
        pipeline(person, {"top": top, "bottom": "nowhere.jpg"})
    with pytest.raises(ShapeError, match=r"^garment\['top'\]: expected the latent of one person, got 2"):
        pipeline(person, {"top": stack([top, top])})
    with pytest.raises(ConfigError, match=r"^garment_box\['top'\]: expected None beside a pose"):
        pipeline(person, {"top": top}, garment_box={"top": (0, 0, 9, 9)})
    with pytest.raises(ConfigError, match=r"^garment_pose: expected a mapping of regions beside an outfit, got Pose"):
        pipeline(person, {"top": top}, garment_pose=pose_of(wardrobe.people[2]))
    with pytest.raises(ConfigError, match=r"^garment_pose: expected regions of the outfit, top, got bottom"):
        pipeline(person, {"top": top}, garment_pose={"bottom": pose_of(wardrobe.people[2])})
    with pytest.raises(ConfigError, match=r"^region: expected none beside an outfit"):
        pipeline(person, {"top": top}, region="bottom")
    with pytest.raises(RegionError, match="garment: expected at least one garment"):
        pipeline(person, {})


def test_what_cannot_be_worn_together_is_told_before_anything_is_read(wardrobe: Wardrobe) -> None:
    with pytest.raises(RegionError, match="got 'bottom' and 'dress', which both take the place of bottom"):
        wardrobe.pipeline("no.jpg", {"bottom": "no.jpg", "dress": "no.jpg"})
    with pytest.raises(RegionError, match="'dress' and 'bottom'"):
        wardrobe.pipeline.optimize(wardrobe.person, {"dress": wardrobe.top, "bottom": wardrobe.bottom})


def test_a_garment_that_changes_nothing_is_named(wardrobe: Wardrobe) -> None:
    with pytest.warns(TryOnWarning, match="nothing to be seen has changed by the bottom: ") as told:
        wardrobe.pipeline(wardrobe.person, {"bottom": wardrobe.person, "top": wardrobe.top})
    assert len(told) == 1


# -------------------------------------------------------------------------------------------- what labels are taken for


def test_a_dress_comes_off_for_a_top_and_a_bottom(wardrobe: Wardrobe, monkeypatch: pytest.MonkeyPatch) -> None:
    (photograph,) = wardrobe.person.photograph or (None,)
    assert photograph is not None
    assert photograph.labels is not None
    clothes = np.isin(photograph.labels, (Label.TOP, Label.BOTTOM))
    dress = np.where(clothes, np.uint8(Label.DRESS), photograph.labels)
    wearer = replace(wardrobe.person, photograph=(replace(photograph, labels=dress),))
    result = wardrobe.pipeline(wearer, {"top": wardrobe.top, "bottom": wardrobe.bottom})
    assert (result.segmentation == Label.DRESS).sum() < 0.05 * clothes.sum()
    assert (result.segmentation == Label.BOTTOM).mean() > 0.01
    # By the bottom alone nothing of it is taken off, as it is no bottom.
    alone = wardrobe.pipeline(wearer, {"bottom": wardrobe.bottom})
    assert (alone.segmentation == Label.DRESS).sum() > 0.3 * clothes.sum()


def test_a_coat_goes_over_a_dress(wardrobe: Wardrobe) -> None:
    seeds = range(1_000_000_000, 1_000_000_200)
    figure = next(one for one in map(paperdoll.sample_figure, seeds) if paperdoll.wears(one, "dress"))
    gown = paperdoll.render(figure, SIZE)
    outfit = {"outerwear": wardrobe.coat, "dress": gown.image}
    result = wardrobe.pipeline(wardrobe.person, outfit, garment_pose={"dress": pose_of(gown)})
    assert list(result.outfit) == ["dress", "outerwear"]
    dress = result.outfit["dress"].segmentation == Label.DRESS
    assert dress.mean() > 0.03
    covered = dress & (result.segmentation == Label.OUTERWEAR)
    assert 0.1 < covered.sum() / dress.sum() < 1
    assert (result.segmentation == Label.DRESS).mean() > 0.01
    assert (result.segmentation == Label.TOP).mean() < 0.005


def test_shoes_are_refused_where_the_generator_draws_none(wardrobe: Wardrobe) -> None:
    with pytest.raises(RegionError, match=r"^garment\['shoes'\]: the garment picture shows no shoes"):
        wardrobe.pipeline(wardrobe.person, {"shoes": wardrobe.top, "top": wardrobe.top})


def test_what_a_top_brings_stays_under_outerwear(wardrobe: Wardrobe, monkeypatch: pytest.MonkeyPatch) -> None:
    """The labels call many a jumper outerwear; the coat that goes over it must not take it off."""
    (photograph,) = wardrobe.top.photograph or (None,)
    assert photograph is not None
    assert photograph.labels is not None
    jumper = np.where(photograph.labels == Label.TOP, np.uint8(Label.OUTERWEAR), photograph.labels)
    top = replace(wardrobe.top, photograph=(replace(photograph, labels=jumper),))
    result = wardrobe.pipeline(wardrobe.person, {**wardrobe.worn, "top": top})
    assert same(result, wardrobe.result)


@pytest.mark.parametrize(("region", "shown"), [("bottom", Shows.FRONT), ("outerwear", Shows.CLOTH)])
def test_a_top_stays_before_new_trousers_and_under_a_new_coat(wardrobe: Wardrobe, region: str, shown: Shows) -> None:
    garment = {"bottom": wardrobe.bottom, "outerwear": wardrobe.coat}[region]
    (person,), (theirs,) = wardrobe.person.photograph or (), garment.photograph or ()
    assert person is not None
    assert person.labels is not None
    assert theirs is not None
    layers = compose(person, theirs, REGIONS.get(region, {Label.OUTERWEAR}))
    assert layers is not None
    left, up, right, down = layers.box
    top = person.labels[up:down, left:right] == Label.TOP
    share = (layers.layout[top] == shown).mean()
    assert share > (0.9 if shown is Shows.FRONT else 0.1)
    assert (layers.layout[top] == Shows.FRONT).mean() < 0.05 or shown is Shows.FRONT


def test_pictures_may_be_whatever_a_picture_is(wardrobe: Wardrobe) -> None:
    """An outfit is told from a picture by being a mapping."""
    person, _, top, _ = wardrobe.people
    given = {"top": Image.fromarray(top.image)}
    by_mapping = wardrobe.pipeline(wardrobe.person, given, garment_pose={"top": pose_of(top)})
    plain = wardrobe.pipeline(wardrobe.person, given["top"], garment_pose=pose_of(top))
    assert same(by_mapping, plain)
    assert person.image.shape == (*SIZE, 3)
