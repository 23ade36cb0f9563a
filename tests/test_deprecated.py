"""Old names still work, and say what to write instead."""

from __future__ import annotations

import importlib

import pytest
import torch

from styletryon.generator import GeneratorOutput
from styletryon.labels import Label
from styletryon.losses import TryOnTargets
from styletryon.metrics._evaluation import check_methods
from styletryon.metrics.methods import METHODS
from styletryon.tryon import TryOnOptimizer
from tests._support.tiny import tiny_generator, tiny_latent

OLD = {
    "styletryon.images": {
        "read_image": "styletryon.photo",
        "Frame": "styletryon.photo",
        "Source": "styletryon.photo.photograph.Photograph",
    },
    "styletryon.metrics": {"pose_following": "styletryon.metrics.pose_transfer"},
    "styletryon.drawing": {"Drawing": "styletryon.generator.GeneratorOutput"},
    "styletryon.losses": {
        "Composite": "styletryon.losses.targets.TargetPicture",
        "composite_target": "styletryon.losses.targets.target_picture",
        "replaced_classes": "styletryon.labels.replaced_classes",
    },
    "styletryon.interop": {"ParsedDrawer": "styletryon.interop.parsed.ParsedGenerator"},
}


@pytest.mark.parametrize(("module", "name"), [(module, name) for module, names in OLD.items() for name in names])
def test_an_old_name_warns_and_is_the_new_one(module: str, name: str) -> None:
    with pytest.warns(DeprecationWarning, match=r"leaves in styletryon 0\.4"):
        found = getattr(importlib.import_module(module), name)
    new = OLD[module][name]
    home, _, last = new.rpartition(".")
    expected = getattr(importlib.import_module(new), name, None) if home == "styletryon" else getattr(
        importlib.import_module(home), last
    )
    assert found is expected


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="nothing"):
        importlib.import_module("styletryon.images").nothing  # noqa: B018


def test_old_attributes_and_arguments_warn_and_are_the_new_ones() -> None:
    generator = tiny_generator(shares=True)
    latent = tiny_latent(generator, 1)
    with pytest.warns(DeprecationWarning, match=r"channel_masks.*leaves in styletryon 0\.4"):
        old = generator.shares({4})
    new = generator.channel_masks({4})
    assert old is not None
    assert new is not None
    assert all(torch.equal(*pair) for pair in zip(old, new, strict=True))
    with pytest.warns(DeprecationWarning, match=r"editable_styles.*leaves in styletryon 0\.4"):
        assert latent.portable is latent.styles  # it has no anchor
    drawing = GeneratorOutput(torch.zeros(1, 3, 2, 2), torch.zeros(1, 12, 2, 2))
    with pytest.warns(DeprecationWarning, match=r"TryOnTargets\(shares=\) is now channel_masks"):
        targets = TryOnTargets(drawing, drawing, drawing, (), (), (), (), frozenset({Label.TOP}), shares=new)  # type: ignore[call-arg]
    with pytest.warns(DeprecationWarning, match="channel_masks"):
        assert targets.shares is targets.channel_masks is new
    with pytest.warns(DeprecationWarning, match="initial='shares' is now 'channel_masks'"):
        assert TryOnOptimizer(generator, initial="shares").initial == "channel_masks"


def test_old_names_of_methods_are_understood() -> None:
    with pytest.warns(DeprecationWarning, match="'ours_without_shares' is now 'ours_without_masks'"):
        assert check_methods(["ours_without_shares"], METHODS, tiny_generator(), {4}) == ["ours_without_masks"]
