"""Train the network of garments that nobody wears, or measure it.

``python -m styletryon.training.garment --ccp DIR --flat DIR --out DIR`` trains: first on drawn garments and on garments
cut out of photographs of people, then also on photographs of garments by themselves that it has labelled itself.

``python -m styletryon.training.garment --ccp DIR --flat DIR --evaluate`` measures the bundled network, or that in
``--out``: on drawn garments, on photographs labelled by hand, and whether it tells worn garments from others.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from safetensors.torch import save as to_bytes

from styletryon._files import write_bytes, write_text
from styletryon.pose._garment_network import WEIGHTS, from_body, head_of, load_garment_network
from styletryon.pose._weights import load_body_network
from styletryon.pose.network import BodyNetwork
from styletryon.training.body.examples import Example, read_split, render_examples
from styletryon.training.body.trainer import BodyTrainer, BodyTraining, Pools
from styletryon.training.garment.evaluation import evaluate, labelled_by_hand, table
from styletryon.training.garment.examples import (
    cut_garments,
    drawn_garments,
    flat_names,
    folded_and_shoes,
    ground_patches,
    taught,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; see the top of the module."""
    parser = argparse.ArgumentParser(prog="python -m styletryon.training.garment", description=__doc__)
    parser.add_argument("--ccp", type=Path, required=True, help="folder of photographs with keypoints and labels")
    parser.add_argument("--flat", type=Path, required=True, help="folder of photographs of garments, with index.json")
    parser.add_argument("--out", type=Path, help="folder of the trained network")
    parser.add_argument("--evaluate", action="store_true", help="measure instead of training")
    parser.add_argument("--json", type=Path, help="file for what --evaluate finds")
    parser.add_argument("--drawn", type=int, default=600, help="how many garments are drawn to train on")
    parser.add_argument("--people", type=int, default=835, help="of how many photographs of people at most")
    parser.add_argument("--steps", type=int, nargs=2, default=(450, 450), help="of the first and the second round")
    parser.add_argument("--batch", type=int, default=12)
    parser.add_argument("--side", type=int, default=192, help="of the pictures of the first half of each round")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    torch.set_num_threads(options.threads)
    if options.evaluate:
        found = evaluate(options.ccp, options.flat, options.out or WEIGHTS)
        sys.stdout.write(table(found) + "\n")
        if options.json is not None:
            write_text(options.json, json.dumps(found, indent=2) + "\n")
        return 0
    if options.out is None:
        parser.error("--out: expected a folder to train into")

    names = flat_names(options.flat, held=list(labelled_by_hand()))
    people = read_split(options.ccp, "train", side=384)[: options.people]
    worn = [*people, *render_examples(range(options.drawn // 4))]
    drawn = drawn_garments(range(options.drawn))
    logging.info("%d photographs of people, %d drawn garments", len(people), len(drawn))
    cut = cut_garments(people)
    useless = folded_and_shoes([*drawn, *cut], people, 150, seed=0)
    patches = ground_patches(options.flat, list(names))
    logging.info("%d garments cut out, %d that cannot be worn, %d grounds", len(cut), len(useless), len(patches))
    nobody = [Example(patches[0], None)]
    first: Path = options.out / "first" / "garment.safetensors"
    if first.is_file():  # a run that was stopped between its rounds
        network = load_garment_network(first.parent)
    else:
        pools = [(0.36, drawn), (0.30, cut), (0.22, worn), (0.08, useless), (0.04, nobody)]
        network = _train(from_body(load_body_network(WEIGHTS)), pools, patches, options, 0, 8e-4)
    lessons = taught(options.flat, names, network)
    logging.info("%d of %d photographs labelled", len(lessons), len(names))
    pools = [(0.18, drawn), (0.18, cut), (0.20, worn), (0.07, useless), (0.03, nobody), (0.34, lessons)]
    network = _train(network, pools, patches, options, 1, 6e-4)
    write_bytes(options.out / "garment.safetensors", to_bytes(head_of(network), {"format": "pt"}))
    return 0


def _train(
    network: BodyNetwork,
    pools: Sequence[tuple[float, Sequence[Example]]],
    patches: Sequence[Image.Image],
    options: argparse.Namespace,
    turn: int,
    rate: float,
) -> BodyNetwork:
    """Train one of the two rounds; return the average of its weights."""
    size = (options.side, options.side)
    settings = BodyTraining(
        steps=options.steps[turn], batch=options.batch, learning_rate=rate, stages=((0.6, size),), ema=0.99, seed=turn
    )
    chosen = Pools(pools, settings.seed)
    chosen.augmenter.strips = [*patches, *chosen.augmenter.strips[::4]]
    out = options.out / ("first", "second")[turn]
    trainer = BodyTrainer(settings, network.config, chosen, out, start=network)
    trainer.begin(resume=bool(trainer.checkpoints.steps()))  # A round that was stopped goes on.
    trainer.train(progress=True, sample_every=10**9)
    write_bytes(out / "garment.safetensors", to_bytes(head_of(trainer.average), {"format": "pt"}))
    return trainer.average


if __name__ == "__main__":
    sys.exit(main())
