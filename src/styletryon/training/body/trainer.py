"""The trainer of the network of the body. Every step is a function of the seed and its number, so a run can go on."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from safetensors.torch import save as to_bytes
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from styletryon._files import write_bytes, write_text
from styletryon.errors import CheckpointError, RangeError
from styletryon.pose._photo import cut
from styletryon.pose.network import BodyConfig, BodyNetwork
from styletryon.pose.trunk import ScaledConv
from styletryon.training.body.augmenter import Augmenter
from styletryon.training.body.examples import IGNORED, Example, background_strips, cutouts
from styletryon.training.body.measures import class_iou, confusion, pck
from styletryon.training.body.objective import class_weights, keypoint_loss, label_loss
from styletryon.training.ema import WeightAverage
from styletryon.training.loop import BaseTrainer
from styletryon.training.schedule import Schedule


@dataclass(frozen=True)
class BodyTraining:
    """The settings of a training.

    Attributes:
        steps: Length; the schedule is a function of the share of the steps that is done.
        batch: Pictures in a step.
        learning_rate: The highest, of what starts from nothing.
        trunk_rate: Share of it for the trunk, whose layers up to stride 4 stay as they are.
        weight_decay: Of AdamW.
        stages: Shares of the steps that see smaller pictures at first, which train faster, with their height and width.
        ema: Decay of the average of the weights, which is what is kept.
        label_weight: Weight of the labels' losses beside the keypoints'.
        dice: Weight of the soft Dice loss beside the labels' cross-entropy.
        rendered: Number of rendered figures; 0 for none.
        rendered_share: Share of the pictures of a batch that are rendered.
        unlabelled_share: Share of the photographs of a batch that have keypoints alone, where there are such.
        rare_share: Share of the labelled photographs of a batch that are drawn from those with a dress or legwear.
        empty_share: Share of the pictures of a batch that show nobody.
        seed: Of every random choice.
    """

    steps: int = 5800
    batch: int = 12
    learning_rate: float = 2e-3
    trunk_rate: float = 0.2
    weight_decay: float = 0.02
    stages: tuple[tuple[float, tuple[int, int]], ...] = ((0.45, (192, 128)), (0.35, (288, 192)))
    ema: float = 0.998
    label_weight: float = 2.0
    dice: float = 0.5
    rendered: int = 400
    rendered_share: float = 0.08
    unlabelled_share: float = 0.15
    rare_share: float = 0.3
    empty_share: float = 0.06
    seed: int = 0

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise RangeError(f"expected a positive number, got {self.steps}", argument="steps")
        if self.batch < 2:
            raise RangeError(f"expected at least 2, for batch normalisation, got {self.batch}", argument="batch")
        if not sum(share for share, _ in self.stages) <= 1 or min([share for share, _ in self.stages], default=0) < 0:
            raise RangeError(f"expected shares from 0 up whose sum is at most 1, got {self.stages}", argument="stages")
        for name in ("rendered_share", "unlabelled_share", "rare_share", "empty_share", "ema"):
            if not 0 <= getattr(self, name) < 1:
                raise RangeError(f"expected a number in [0, 1), got {getattr(self, name)}", argument=name)


@dataclass(frozen=True, eq=False)
class Batch:
    """Training pictures.

    Attributes:
        images: `(B, 3, H, W)` in [-1, 1].
        keypoints: `(B, 17, 3)` x, y in pixels and a score, 0 where a keypoint is not in the picture.
        labels: `(B, H/2, W/2)` int64 classes, `IGNORED` where they are not known.
    """

    images: Tensor
    keypoints: Tensor
    labels: Tensor


class Pools:
    """Kinds of examples, of which batches are drawn: each example of a kind once before any comes again.

    Args:
        pools: Share and examples of each kind; kinds without examples are left out, and the shares made to sum to 1.
        seed: Of every random choice.
    """

    def __init__(self, pools: Sequence[tuple[float, Sequence[Example]]], seed: int) -> None:
        kept = [(share, examples) for share, examples in pools if share > 0 and len(examples)]
        self.examples = [examples for _, examples in kept]
        shares = np.array([share for share, _ in kept])
        self.shares = shares / shares.sum()
        self.seed = seed
        self.drawn = [0] * len(kept)
        every = list({id(one): one for pool in self.examples for one in pool}.values())
        self.augmenter = Augmenter(background_strips(every), seed, cutouts(every))

    def draw(self, step: int, count: int, size: tuple[int, int]) -> Batch:
        """Draw the batch of a step: `count` pictures of `size` (height, width)."""
        augmenter = self.augmenter
        augmenter.rng = rng = np.random.default_rng([self.seed, step])
        drawn = [
            augmenter.draw(self._next(int(pool)), size)
            for pool in rng.choice(len(self.shares), size=count, p=self.shares)
        ]
        images, keypoints, labels = (np.stack(parts) for parts in zip(*drawn, strict=True))
        pictures = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
        return Batch(
            augmenter.recolour(pictures),
            torch.from_numpy(keypoints.astype(np.float32)),
            torch.from_numpy(labels.astype(np.int64)),
        )

    def _next(self, pool: int) -> Example:
        examples = self.examples[pool]
        round_, place = divmod(self.drawn[pool], len(examples))
        self.drawn[pool] += 1
        order = np.random.default_rng([self.seed, pool, round_]).permutation(len(examples))
        return examples[int(order[place])]


@final
class BodyTrainer(BaseTrainer):
    """Trains a `BodyNetwork` and keeps the average of its weights.

    Args:
        settings: How.
        config: The shape of the network.
        pools: What it is trained on.
        folder: Where checkpoints and log go, and what is exported.
        held: Name -> examples that are measured, not trained on.
        trunk: The published weights of the trunk, of `EfficientNetLite.load_imagenet`. None starts from nothing.
        start: A trained network of the same shape from which to go on, whose trunk stays as it is; in the place of
            `trunk`.

    Raises:
        CheckpointError: If `trunk` is of another network.
    """

    def __init__(
        self,
        settings: BodyTraining,
        config: BodyConfig,
        pools: Pools,
        folder: Path,
        *,
        held: Mapping[str, Sequence[Example]] | None = None,
        trunk: Mapping[str, Tensor] | None = None,
        start: BodyNetwork | None = None,
    ) -> None:
        super().__init__(folder, settings.steps * settings.batch)
        self.settings = settings
        self.pools = pools
        self.held = dict(held or {})
        network = BodyNetwork(config)
        if start is not None:
            network.load_state_dict(start.state_dict())
            network.trunk.requires_grad_(False)
        else:
            _initialise(network, torch.Generator().manual_seed(settings.seed))
        if trunk is not None:
            network.trunk.load_imagenet(trunk)
            for layer in network.trunk.early():
                layer.requires_grad_(False)
        self.network = network.to(memory_format=torch.channels_last).train()
        self.networks = {"network": self.network}
        self._ema = WeightAverage(self.network, average_buffers=True)
        self.average = self._ema.model
        self.weights = class_weights([one for pool in pools.examples for one in pool])
        groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
        for name, parameter in self.network.named_parameters():
            if parameter.requires_grad:
                groups.setdefault((name.startswith("trunk."), parameter.ndim > 1), []).append(parameter)
        self.optimizer = torch.optim.AdamW(
            [
                {
                    "params": parameters,
                    "weight_decay": settings.weight_decay if matrix else 0.0,
                    "share": settings.trunk_rate if pretrained and trunk is not None else 1.0,
                }
                for (pretrained, matrix), parameters in groups.items()
            ],
            lr=settings.learning_rate,
            betas=(0.9, 0.99),
        )
        self._schedule = Schedule(self.total_pictures, settings.batch, 200, "cosine", final_rate=0.02)

    @property
    def progress(self) -> float:
        """The share of the steps that is done, in [0, 1]."""
        return min(1.0, self.step / self.settings.steps)

    def learning_rate(self) -> float:
        """Return the highest learning rate now: a warm-up of 200 steps, then half a cosine."""
        return self._schedule.rate(self.settings.learning_rate, self.pictures)

    def size(self) -> tuple[int, int]:
        """Height and width of the pictures now."""
        end = 0.0
        for share, size in self.settings.stages:
            end += share
            if self.progress < end:
                return size
        return self.network.config.size

    def train_step(self, batch: Batch | None = None) -> dict[str, Tensor]:
        """Take one step; return the losses by name.

        Args:
            batch: Pictures to learn from. Default: those of this step.
        """
        if batch is None:
            batch = self.pools.draw(self.step, self.settings.batch, self.size())
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate() * group["share"]
        losses = self._losses(batch)
        labels = losses["what"] + self.settings.dice * losses["dice"]
        loss = losses["where"] + 0.5 * losses["whether"] + self.settings.label_weight * labels
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 5.0)
        self.optimizer.step()
        self.step += 1
        self.pictures += self.settings.batch
        self._ema.update(self.network, min(self.settings.ema, (1 + self.step) / (10 + self.step)))
        return {name: value.detach() for name, value in losses.items()}

    def _losses(self, batch: Batch) -> dict[str, Tensor]:
        network = self.network
        images = batch.images.contiguous(memory_format=torch.channels_last)
        # Attention over a hundred positions: plain products are faster than the fused kernel of a CPU.
        with torch.autocast("cpu", torch.bfloat16), sdpa_kernel(SDPBackend.MATH):
            heatmaps, presence, logits = network(images)
        size = (images.shape[-2], images.shape[-1])
        where, whether = keypoint_loss(heatmaps, presence, batch.keypoints, size)
        what, dice = label_loss(logits, batch.labels, self.weights)
        return {"where": where, "whether": whether, "what": what, "dice": dice}

    def position(self) -> dict[str, int]:
        """Return the height of the pictures, for the log."""
        return {"height": self.size()[0]}

    def validate(self) -> dict[str, float]:
        """Measure the average on the examples that are held out; see `measure`."""
        found = {name: measure(self.average, examples) for name, examples in self.held.items()}
        return {f"val_{name}_{key}": value for name, values in found.items() for key, value in values.items()}

    def save_settings(self) -> None:
        """Write the settings: `out / "settings.json"`."""
        write_text(self.out / "settings.json", json.dumps(asdict(self.settings), indent=2) + "\n")

    def save(self, *, replace: bool = True) -> None:
        """Write a checkpoint, and the folded average in half precision as it is shipped."""
        super().save(replace=replace)
        self.finish()

    def finish(self) -> None:
        """Write the average as it is shipped; see `export`."""
        export(self.average, self.out)

    def state(self) -> dict[str, Any]:
        """Return everything that the next step depends on."""
        return {
            "config": self.network.config.to_dict(),
            "step": self.step,
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict()["state"],
            "drawn": self.pools.drawn,
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Take over a state that `state` returned.

        Raises:
            CheckpointError: If it is of another network or other pools.
        """
        if state["config"] != self.network.config.to_dict() or len(state["drawn"]) != len(self.pools.drawn):
            raise CheckpointError(
                f"expected a checkpoint of this network and these pools in {self.out}", argument="out"
            )
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": state["optimizer"], "param_groups": groups})
        self.pools.drawn = list(state["drawn"])
        self.step = int(state["step"])
        self.pictures = self.step * self.settings.batch


def export(network: BodyNetwork, folder: Path) -> None:
    """Write a network as it is shipped: `body.safetensors`, folded and in half precision, and `body.json`."""
    folded = deepcopy(network).fold()
    tensors = {key: value.to(torch.float16).contiguous() for key, value in folded.state_dict().items()}
    write_bytes(folder / "body.safetensors", to_bytes(tensors))
    write_text(folder / "body.json", json.dumps({"class": "BodyNetwork", **folded.config.to_dict()}, indent=2) + "\n")


@torch.inference_mode()
def measure(network: BodyNetwork, examples: Sequence[Example]) -> dict[str, float]:
    """Measure a network on whole pictures, one pass each, at its own size: quick, to watch a training by.

    Returns:
        `pck@0.1` by the torso and `miou` over the classes that occur, shares in [0, 1].
    """
    height, width = network.config.size
    found, truth = [], []
    counts = np.zeros((12, 12), np.int64)
    for example in examples:
        image = example.image
        step = max(image.width / width, image.height / height)
        left, top = image.width / 2 - step * width / 2, image.height / 2 - step * height / 2
        picture = cut(image, (left, top, left + step * width, top + step * height), (height, width))
        heatmaps, _, logits = network(picture[None])
        peaks = heatmaps[0].flatten(1).argmax(1)
        columns, rows = peaks % heatmaps.shape[-1], peaks // heatmaps.shape[-1]
        found.append(torch.stack([left + (columns + 0.5) * 4 * step, top + (rows + 0.5) * 4 * step], -1))
        truth.append(torch.from_numpy(np.array(example.keypoints)))
        if example.labels is not None:
            x = ((np.arange(width // 2) + 0.5) * 2 * step + left).astype(int)
            y = ((np.arange(height // 2) + 0.5) * 2 * step + top).astype(int)
            inside = ((y >= 0) & (y < image.height))[:, None] & ((x >= 0) & (x < image.width))[None]
            labels = np.asarray(example.labels)[y.clip(0, image.height - 1)][:, x.clip(0, image.width - 1)]
            counts += confusion(logits[0].argmax(0).numpy().astype(np.uint8), np.where(inside, labels, IGNORED))
    return {"pck@0.1": pck(torch.stack(found), torch.stack(truth), 0.1), "miou": float(np.nanmean(class_iou(counts)))}


def _initialise(network: BodyNetwork, generator: torch.Generator) -> None:
    """Draw the first weights from a generator, so that a seed says what they are."""
    for name, module in network.named_modules():
        if isinstance(module, ScaledConv):
            nn.init.normal_(module.weight, 0.0, math.sqrt(2 / module.weight[0].numel()), generator=generator)
        elif isinstance(module, nn.Conv2d):
            last = name in ("heatmap", "label")
            spread = 0.01 if last else math.sqrt(2 / (module.out_channels * math.prod(module.kernel_size)))
            nn.init.normal_(module.weight, 0.0, spread, generator=generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, 0.0, 1 / math.sqrt(module.in_features), generator=generator)
            nn.init.zeros_(module.bias)
        elif name.endswith("second.norm"):
            nn.init.zeros_(module.weight)  # a residual block starts as the identity
    nn.init.normal_(network.position, 0.0, 0.1, generator=generator)
