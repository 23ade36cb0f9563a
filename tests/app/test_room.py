"""What the fitting room computes, without a browser and without Gradio."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from styletryon.app import FittingRoom
from styletryon.app import room as rooms
from styletryon.app.figures import (
    KINDS,
    label_names,
    layer_pictures,
    layer_title,
    layout_names,
    show_labels,
    show_layout,
)
from styletryon.app.room import Fitting
from styletryon.app.visits import Visits
from styletryon.app.wardrobe import MAX_SIDE, SEEDS, THUMBNAIL, Choice, rendered, thumbnails, uploaded
from styletryon.compositing import show
from styletryon.data import paperdoll
from styletryon.errors import ImageError, PersonNotFoundError, RangeError, RegionError, ShapeError
from styletryon.tryon import blend
from styletryon.tryon.layers import Shows
from tests._support.tiny import tiny_generator
from tests.app.conftest import choice, png


def silent(share: float, text: str) -> None:
    """Hear of progress and do nothing."""


@pytest.fixture(scope="module")
def fitting(room: FittingRoom, region: str) -> Fitting:
    return room.dress(choice(1), choice(2), region=region, preset="fast", tell=silent)


def test_progress_rises_from_start_to_end(room: FittingRoom, region: str) -> None:
    heard: list[tuple[float, str]] = []
    room.dress(choice(31), choice(32), region=region, preset="fast", tell=lambda *news: heard.append(news))
    shares = [share for share, _ in heard]
    assert shares == sorted(shares)
    assert 0 <= shares[0] < 0.1
    assert shares[-1] == 1
    stages = list(dict.fromkeys(text for _, text in heard))
    assert stages == ["Reading the pictures", "Looking at the people", "Dressing", "Finishing the picture"]


def test_what_is_told_may_end_the_work(room: FittingRoom, region: str) -> None:
    def stop(share: float, text: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        room.dress(choice(33), choice(34), region=region, preset="fast", tell=stop)
    assert room.dress(choice(33), choice(34), region=region, preset="fast", tell=silent).result.image.size == (24, 32)


def test_a_picture_is_projected_once_per_preset(
    region: str, projected: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rooms, "MAX_LATENTS", 2)
    room = FittingRoom(tiny_generator())
    for _ in range(2):
        room.dress(choice(1), choice(2), region=region, preset="fast", tell=silent)
    assert projected == [2]
    room.dress(choice(3), choice(2), region=region, preset="fast", tell=silent)
    room.dress(choice(1), choice(2), region=region, preset="fast", tell=silent)
    assert projected == [2, 1, 1]
    room.dress(choice(1), choice(2), region=region, preset="balanced", tell=silent)
    assert projected == [2, 1, 1, 2]


def test_a_garment_is_worn_or_not_as_the_visitor_says(room: FittingRoom) -> None:
    """A garment by itself has no place in a region of a whole outfit, and nobody is in its picture."""
    shirt = Image.fromarray(paperdoll.lay_flat(paperdoll.sample_figure(900), "top", (320, 320)).image)
    garment = Choice(shirt, "shirt")
    for worn, kind in ((None, RegionError), (False, RegionError), (True, PersonNotFoundError)):
        with pytest.raises(kind):
            room.dress(choice(1), replace(garment, worn=worn), region="full", preset="fast", tell=silent)


def test_an_unknown_region_is_told_first(room: FittingRoom) -> None:
    with pytest.raises(RegionError, match="hat"):
        room.dress(choice(1), choice(2), region="hat", preset="fast", tell=silent)


def test_scales_of_one_redraw_what_was_found(room: FittingRoom, fitting: Fitting) -> None:
    changed = room.redraw(fitting, [0.5] * len(room.groups))
    assert changed.result is not fitting.result
    again = room.redraw(changed, [1.0] * len(room.groups))
    assert again.result is fitting.result
    assert not again.report["changed_by_hand"]


def test_scales_of_nought_give_the_person_back(room: FittingRoom, fitting: Fitting) -> None:
    again = room.redraw(fitting, [0.0] * len(room.groups))
    assert all(mean == 0 for mean in again.layer_means.values())
    torch.testing.assert_close(again.result.drawn, fitting.batch.targets.person.image[0].clamp(-1, 1))


@pytest.fixture(scope="module")
def bundled() -> tuple[FittingRoom, Fitting]:
    """A try-on that has layers."""
    room = FittingRoom()
    return room, room.dress(rendered(4), rendered(9), region="top", preset="fast", tell=silent)


def test_what_is_changed_by_hand_is_shown_in_the_photograph(bundled: tuple[FittingRoom, Fitting]) -> None:
    """As composing the changed drawing anew shows it, bit for bit."""
    room, fitting = bundled
    assert fitting.layers["top"] is not None
    for scale in (0.0, 0.1, 0.5):
        scales = [scale] * len(room.groups)
        changed, drawn = room.redraw(fitting, scales), room.redraw(fitting, scales, as_drawn=True)
        anew = show(room._drawn(fitting, changed.scales))
        assert changed.result.image.tobytes() == anew.image.tobytes()
        assert np.array_equal(changed.result.segmentation, anew.segmentation)
        assert torch.equal(changed.result.drawn, drawn.result.drawn)
        assert drawn.layers == {"top": None}
    assert room.redraw(fitting, [0.0] * len(room.groups)).result.image.tobytes() == rendered(4).picture.tobytes()


def test_a_change_shares_its_layers_with_what_was_found(bundled: tuple[FittingRoom, Fitting]) -> None:
    """Nothing is composed anew, and nothing more of them is kept than how much is replaced."""
    room, fitting = bundled
    found, layers = fitting.layers["top"], room.redraw(fitting, [0.5] * len(room.groups)).layers["top"]
    assert found is not None
    assert layers is not None
    for name in ("cloth", "skin", "own", "background", "picture", "layout", "labels"):
        assert getattr(layers, name) is getattr(found, name)


def test_a_drawing_does_not_wait_for_a_composition(
    bundled: tuple[FittingRoom, Fitting], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("composed")

    room, fitting = bundled
    monkeypatch.setattr("styletryon.compositing.showing.compose", refuse)
    for scale in (1.0, 0.5):
        assert room.redraw(fitting, [scale] * len(room.groups), as_drawn=True).as_drawn


def test_what_is_looked_at_as_drawn_shows_what_a_coefficient_does(bundled: tuple[FittingRoom, Fitting]) -> None:
    """Of the garment's cloth, which is its photograph's, nothing may be left where no coefficient takes its style."""
    room, fitting = bundled
    as_found = room.redraw(fitting, [1.0] * len(room.groups), as_drawn=True)
    assert as_found.report["as_drawn"]
    assert not as_found.report["changed_by_hand"]
    own, worn = (np.asarray(picture, float) for picture in (rendered(4).picture, as_found.result.image))
    assert not np.array_equal(worn, np.asarray(fitting.result.image))
    bare = np.asarray(room.redraw(fitting, [0.0] * len(room.groups), as_drawn=True).result.image, float)
    change = np.asarray(as_found.result.mask) > 0.5
    inside = np.asarray(Image.fromarray(change).resize(rendered(4).picture.size))
    assert np.abs(bare - own)[inside].mean() < 0.5 * np.abs(worn - own)[inside].mean()
    again = room.redraw(as_found, [1.0] * len(room.groups))
    assert again.result is fitting.result


def test_the_layout_is_shown_in_colours_where_something_changes(bundled: tuple[FittingRoom, Fitting]) -> None:
    _, fitting = bundled
    layers, picture = fitting.result.layers(), fitting.result.image
    assert layers is not None
    shown = np.asarray(show_layout(layers, picture), float)
    left, top, right, bottom = layers.box
    size = right - left, bottom - top
    layout = np.zeros(shown.shape[:2], np.uint8)
    layout[top:bottom, left:right] = np.asarray(Image.fromarray(layers.layout).resize(size, Image.Resampling.NEAREST))
    expected = np.asarray(picture, float)
    for what, (_, colour) in KINDS.items():
        expected[layout == what] = 0.25 * expected[layout == what] + 0.75 * np.array(colour)
    assert np.abs(shown - expected).max() <= 1
    assert np.array_equal(shown[layout == Shows.PERSON], np.asarray(picture)[layout == Shows.PERSON])
    assert layout_names(layers) == [named for what, named in KINDS.items() if (layers.layout == what).any()]
    assert set(Shows) - set(KINDS) == {Shows.PERSON}


def test_layers_are_shown_as_they_are(bundled: tuple[FittingRoom, Fitting]) -> None:
    layers = bundled[1].result.layers()
    assert layers is not None
    pictures = dict(layer_pictures(layers))
    for name, part in (("cloth", layers.cloth), ("bared skin", layers.skin), ("own clothes", layers.own),
                       ("background", layers.background), ("how much is replaced", layers.alpha)):  # fmt: skip
        assert np.abs(np.asarray(pictures.pop(name), float) - 255 * part.clip(0, 1)).max() <= 0.51
    assert not pictures


def test_what_is_worn_is_kept_beside_the_next_garment() -> None:
    room = FittingRoom()
    person, first, second = rendered(4), rendered(9), rendered(0)
    top = room.dress(person, first, region="top", preset="fast", tell=silent)
    assert top.garments == {"top": first}
    both = room.dress(person, second, region="bottom", preset="fast", worn=top, tell=silent)
    assert list(both.garments.items()) == [("bottom", second), ("top", first)]
    assert list(both.result.outfit) == ["bottom", "top"]
    assert both.result.person_image.tobytes() == person.picture.tobytes()
    assert both.report["outfit"] == "bottom, top"
    # The sliders change the outermost garment, over what the others made, and leave those as they are.
    assert list(both.layers) == ["bottom", "top"]
    assert both.layers["bottom"] is both.result.outfit["bottom"].layers()
    bare = room.redraw(both, [0.0] * len(room.groups)).result
    assert bare.person_image.tobytes() == person.picture.tobytes()
    below = np.asarray(both.result.outfit["bottom"].image, float)
    apart = np.abs(np.asarray(bare.image, float) - below).mean()
    assert apart < 0.5 * np.abs(np.asarray(both.result.image, float) - below).mean()
    assert room.redraw(both, [1.0] * len(room.groups)).result is both.result
    # A garment takes the place of another of its region; one of somebody else begins anew.
    other = room.dress(person, second, region="top", preset="fast", worn=top, tell=silent)
    assert other.garments == {"top": second}
    assert room.dress(first, second, region="bottom", preset="fast", worn=top, tell=silent).garments == {
        "bottom": second
    }


def test_what_can_be_worn_together_is_kept() -> None:
    assert rooms._together("top", "outerwear")
    assert rooms._together("bottom", "top")
    assert not rooms._together("bottom", "dress")
    assert not rooms._together("top", "upper-body")


def test_a_scale_multiplies_the_coefficients_of_its_group_alone(room: FittingRoom, fitting: Fitting) -> None:
    scales = [0.5, *[1.0] * (len(room.groups) - 1)]
    again = room.redraw(fitting, scales)
    expected = [
        layer * (0.5 if name.startswith("4.") else 1.0)
        for name, layer in zip(fitting.batch.layer_names, fitting.batch.coefficients, strict=True)
    ]
    for mine, theirs in zip(again.batch.coefficients, fitting.batch.coefficients, strict=True):
        assert torch.equal(mine, theirs), "what was found is kept beside"
    drawn = blend(room.model, fitting.batch.person, fitting.batch.garment, expected).image[0]
    torch.testing.assert_close(again.result.drawn, drawn.clamp(-1, 1))
    strong = room.redraw(fitting, [2.0] * len(room.groups)).result.coefficients
    assert all(0 <= float(layer.min()) <= float(layer.max()) <= 1 for layer in strong.values())


def test_redrawing_twice_starts_from_what_was_found(room: FittingRoom, fitting: Fitting) -> None:
    scales = [0.3] * len(room.groups)
    once, twice = room.redraw(fitting, scales), room.redraw(room.redraw(fitting, scales), scales)
    assert torch.equal(once.result.drawn, twice.result.drawn)


def test_the_number_of_scales_is_checked(room: FittingRoom, fitting: Fitting) -> None:
    with pytest.raises(ShapeError, match="scales"):
        room.redraw(fitting, [1.0])


def test_poses_differ_and_so_do_their_pictures(room: FittingRoom, fitting: Fitting) -> None:
    pictures = room.in_poses(fitting)
    assert len(pictures) == len(room.poses) == rooms.POSES
    assert len({picture.tobytes() for picture in pictures}) == rooms.POSES


def test_the_report_is_plain_and_says_what_was_changed(room: FittingRoom, fitting: Fitting) -> None:
    found = json.loads(json.dumps(fitting.report))
    assert found["region"] == "full"
    assert found["preset"] == "fast"
    assert not found["changed_by_hand"]
    assert any(name.startswith("loss_") for name in found)
    changed = room.redraw(fitting, [0.0] * len(room.groups)).report
    assert changed["changed_by_hand"]
    assert not any(name.startswith("loss_") for name in changed)
    assert changed["coefficient_mean"] == 0


def test_the_wardrobe_is_drawn_and_the_same_each_time() -> None:
    pictures = thumbnails()
    assert len(pictures) == len(SEEDS) == len({picture.tobytes() for picture in pictures})
    assert all(picture.size == THUMBNAIL[::-1] for picture in pictures)
    assert rendered(0) is rendered(0)
    assert rendered(0).pose is not None
    with pytest.raises(RangeError, match="index"):
        rendered(len(SEEDS))


def test_uploads_are_made_smaller_and_known_again() -> None:
    big = Image.new("RGB", (3000, 2000), "red")
    assert max(uploaded(_file(big), "person").picture.size) == MAX_SIDE
    assert uploaded(png(3), "person").key == uploaded(png(3), "garment").key != uploaded(png(4), "person").key
    with pytest.raises(ImageError, match="garment"):
        uploaded(b"no picture", "garment")


def _file(picture: object) -> bytes:
    import io

    file = io.BytesIO()
    picture.save(file, "png")  # type: ignore[attr-defined]
    return file.getvalue()


def test_figures(fitting: Fitting) -> None:
    assert show_labels(fitting).size == fitting.result.image.size
    names = [name for name, _ in label_names(fitting)]
    assert len(names) == len(set(np.unique(fitting.result.segmentation)) - {0})
    assert (layer_title("32.rgb"), layer_title("4.conv")) == ("32 px colour", "4 px conv")


def test_visits_are_bounded_in_number_and_time(fitting: Fitting) -> None:
    now = [0.0]
    visits = Visits(capacity=2, seconds=10, clock=lambda: now[0])
    visits.keep("first", fitting)
    visits.keep("second", fitting)
    assert visits.find("first") is fitting
    visits.keep("third", fitting)
    assert visits.find("second") is None, "the one used longest ago goes first"
    now[0] = 9.0
    assert visits.find("third") is fitting
    now[0] = 11.0
    assert visits.forget() == 1
    assert len(visits) == 1
    assert visits.find("first") is None
    assert visits.find("nobody") is None
    assert len(visits) == 1


def test_who_leaves_is_forgotten_sooner_and_who_comes_back_is_not(fitting: Fitting) -> None:
    now = [0.0]
    visits = Visits(seconds=100, grace=10, clock=lambda: now[0])
    for session in ("leaves", "comes back", "stays"):
        visits.upload(session, "person", choice(1))
        visits.keep(session, fitting)
    visits.leave("leaves")
    visits.leave("comes back")
    visits.leave("nobody")
    now[0] = 9.0
    assert visits.forget() == 0
    assert visits.uploaded("comes back", "person") is not None
    now[0] = 20.0
    assert visits.forget() == 1
    assert visits.uploaded("leaves", "person") is None
    assert visits.find("comes back") is visits.find("stays") is fitting


def test_uploads_are_kept_apart() -> None:
    visits = Visits()
    one, other = choice(1), choice(2)
    visits.upload("a", "person", one)
    visits.upload("b", "person", other)
    assert visits.uploaded("a", "person") is one
    assert visits.uploaded("b", "person") is other
    assert visits.uploaded("a", "garment") is None
    visits.upload("a", "person", other)
    assert visits.uploaded("a", "person") is other
