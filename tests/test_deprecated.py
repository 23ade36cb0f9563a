"""Old names still work, and say what to write instead."""

from __future__ import annotations

import importlib

import pytest

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
