"""TryOnOptimizer: the optimisation over style-interpolation coefficients."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Literal, final

import torch
from torch import Tensor

from styletryon._arguments import check_seed, number, seeded, whole
from styletryon._deprecated import warn_renamed
from styletryon._forks import note_process
from styletryon._graphs import SHORT_BETAS, Adam, Repeated, replace_rows
from styletryon._reprs import one_line
from styletryon.errors import ConfigError, LossError, RangeError, StyleTryOnError
from styletryon.features import frozen
from styletryon.generator import Generator, GeneratorOutput, adapt, draw_in
from styletryon.labels import Region
from styletryon.latent import Latent, Styles
from styletryon.losses import TryOnLoss, TryOnState, TryOnTargets, as_loss, defaults
from styletryon.losses.check import check_values
from styletryon.tryon.baselines import blend_styles, greedy_query
from styletryon.tryon.presets import find_preset
from styletryon.tryon.targets import draw_targets, match_pairs

Losses = Mapping[str, tuple[float, TryOnLoss | Callable[[TryOnState], Tensor]]]
"""Name -> (weight, loss)."""

_FARTHEST = 6.0
"""The largest logit of a coefficient: beyond it the sigmoid passes hardly any gradient on."""

_STARTS = ("channel_masks", "attribution", "greedy", "random")

_LOOK = 5
"""Every how many steps the host asks whether all pairs are done; asking makes a GPU wait."""


class TryOnStatus(Enum):
    """Why the optimisation of a pair ended."""

    CONVERGED = "converged"
    STEP_LIMIT = "step limit"
    TIME_LIMIT = "time limit"
    STOPPED = "stopped by the callback"
    NON_FINITE = "a loss was not finite"


@dataclass(frozen=True, eq=False)
class TryOnProgress:
    """What a callback is told after each step.

    Attributes:
        step: Counts from 1.
        steps: How many there will be at most.
        losses: Loss name -> `(b,)` its value before weighting, and "total" the weighted sum; on the generator's device.
            NaN for a pair that has ended.
        best: `(b,)` the best total so far.
        first: Index of the first pair of the present chunk.
        count: b, how many pairs the chunk holds.
    """

    step: int
    steps: int
    losses: Mapping[str, Tensor]
    best: Tensor
    first: int
    count: int

    __repr__ = one_line


@dataclass(frozen=True, eq=False)
class TryOnBatch:
    """The try-on of a batch of pairs.

    Attributes:
        coefficients: The paper's q, `(B, C_l)` in [0, 1] per styled layer, of the best step.
        styles: The mixed style codes, `(B, C_l)` per styled layer.
        drawing: What the generator draws from them.
        targets: What it was compared with.
        person: The people.
        garment: The wearers of the garments.
        history: Loss name -> `(steps, B)` on the CPU: its value at each step before weighting; "total" the weighted
            sum. Steps after a pair has ended, and those that its chunk did not take, are NaN.
        weights: Loss name -> weight.
        best_step: `(B,)` int64: which step was best.
        status: Why each pair ended.
        seconds: How long it took altogether.
        layer_names: A name per styled layer.
        stages: Name of what came before the optimisation -> how many seconds it took; see `styletryon.TryOnPipeline`.
        under: The try-on, for the same people, of what an outfit has below this garment; `person` is then what that
            drew. None where there is nothing.
    """

    coefficients: tuple[Tensor, ...]
    styles: Styles
    drawing: GeneratorOutput
    targets: TryOnTargets
    person: Latent
    garment: Latent
    history: Mapping[str, Tensor]
    weights: Mapping[str, float]
    best_step: Tensor
    status: tuple[TryOnStatus, ...]
    seconds: float
    layer_names: tuple[str, ...] = field(default=())
    stages: Mapping[str, float] = field(default_factory=dict)
    under: TryOnBatch | None = None

    __repr__ = one_line

    def __len__(self) -> int:
        return len(self.status)

    @property
    def outfit(self) -> tuple[TryOnBatch, ...]:
        """The try-ons of an outfit in the order in which its garments are worn; of one garment, this one."""
        return (self,) if self.under is None else (*self.under.outfit, self)

    @property
    def latent(self) -> Latent:
        """The people in their new garments, as drawn: a latent that can be dressed again.

        It has no photographs, for those show the people undressed; see `TryOnResult.latent`.
        """
        person = self.person
        return Latent(self.styles, person.pose, person.noise, model=person.model, tuning=person.tuning)


@final
class TryOnOptimizer:
    """Chooses, per style channel, how much of it comes from the garment's picture.

    `sigma_t = sigma_p + q * (sigma_g - sigma_p)` with q in [0, 1], drawn in the person's pose and with the person's
    noise. Adam lowers the weighted sum of the losses; the best step of each pair is kept. Pairs are optimised side by
    side, each on its own.

    Works under the caller's `torch.no_grad()` and `torch.inference_mode()` too.

    On CUDA the steps are replayed as a CUDA graph, which gives the same result sooner, if the generator and all losses
    say by an attribute `capturable` that they can be: that they run the same kernels at each step, whatever its number,
    and let the host wait for none. Otherwise they run one by one; the log says why.

    Differs from the paper: its figure shows one q per layer, its text is said to speak of one per layer and channel.
    One per channel is the default, chosen by our ablation (`ours_per_layer`, see docs/evaluation.md). The paper's steps
    and learning rate are not known.

    Args:
        generator: What draws. Its weights are left as they are.
        losses: Name -> (weight, loss), replacing `losses.defaults()`.
        preset: "fast", "balanced" or "quality": where the next four come from unless they are given.
        steps: How many steps of Adam; 0 evaluates the start only.
        learning_rate: Its rate.
        initial: Where the coefficients start: a number in [0, 1], "channel_masks" (what the generator has learnt to
            belong to the region), "attribution", "greedy" or "random". None: the masks if there are
            any, else the preset's. Under `bound="sigmoid"` the start is kept within [0.02, 0.98], where the gradient is
            not yet lost.
        patience: How many steps without progress end a pair; 0: never.
        per: "channel" or "layer": what has a coefficient of its own.
        bound: "sigmoid": optimise logits. "clamp": optimise the coefficients and clamp them *after* each step, so that
            one at a bound still has a gradient.
        time_limit: Seconds after which the optimisation ends with the best step so far; None: no limit.
        tolerance: The share of the total by which a step must be better to count as progress.
        batch_size: How many pairs are optimised at once.
        autocast: A dtype such as `torch.bfloat16` in which the generator computes; None: its own.
        seed: Of `initial="random"`.
        graph: Whether steps may be replayed as a CUDA graph.

    Raises:
        ConfigError: If a setting is unknown or out of range.
        LossError: If a loss is no loss.
    """

    def __init__(
        self,
        generator: Generator,
        *,
        losses: Losses | None = None,
        preset: str = "balanced",
        steps: int | None = None,
        learning_rate: float | None = None,
        initial: float | str | None = None,
        patience: int | None = None,
        per: Literal["channel", "layer"] = "channel",
        bound: Literal["sigmoid", "clamp"] = "sigmoid",
        time_limit: float | None = None,
        tolerance: float = 1e-3,
        batch_size: int = 8,
        autocast: torch.dtype | None = None,
        seed: int = 0,
        graph: bool = True,
    ) -> None:
        chosen = find_preset(preset)
        if generator.num_labels < 1:
            raise ConfigError(
                f"expected one that draws a segmentation, got {type(generator).__name__} with 0 classes; "
                "give it one: styletryon.interop.ParsedGenerator(generator, parser)",
                argument="generator",
            )
        self.generator = generator
        self.steps = whole(chosen.steps if steps is None else steps, "steps", least=0, kind=ConfigError)
        rate = chosen.learning_rate if learning_rate is None else learning_rate
        self.learning_rate = number(rate, "learning_rate", above=0, kind=ConfigError)
        if initial == "shares":
            warn_renamed("initial='shares'", "'channel_masks'", until="0.4")
            initial = "channel_masks"
        if initial is None:
            initial = chosen.initial if generator.channel_masks(()) is None else "channel_masks"
        self.initial = initial
        self.patience = whole(chosen.patience if patience is None else patience, "patience", least=0, kind=ConfigError)
        self.per = per
        self.bound = bound
        self.time_limit = None if time_limit is None else number(time_limit, "time_limit", above=0, kind=ConfigError)
        self.tolerance = number(tolerance, "tolerance", kind=ConfigError)
        self.batch_size = whole(batch_size, "batch_size", least=1, kind=ConfigError)
        self.autocast = autocast
        self.seed = check_seed(seed)
        self.graph = graph
        self.weights, self.losses = _read_losses(defaults() if losses is None else losses)
        if per not in ("channel", "layer"):
            raise ConfigError(f"expected 'channel' or 'layer', got {per!r}", argument="per")
        if bound not in ("sigmoid", "clamp"):
            raise ConfigError(f"expected 'sigmoid' or 'clamp', got {bound!r}", argument="bound")
        if isinstance(initial, str) and initial not in _STARTS:
            raise ConfigError(f"expected a number or one of {', '.join(_STARTS)}, got {initial!r}", argument="initial")
        if not isinstance(initial, str):
            self.initial = number(initial, "initial", least=0, most=1, kind=ConfigError)

    def optimize(
        self,
        person: Latent,
        garment: Latent,
        *,
        region: Region = "top",
        callback: Callable[[TryOnProgress], bool | None] | None = None,
    ) -> TryOnBatch:
        """Try garments on.

        Args:
            person: Latents of `B` people, or of one who tries every garment. If they are tuned (`Latent.tuning`), all
                is drawn with those weights.
            garment: Latents of the `B` wearers of the garments, or of one. What they were tuned to does not matter.
            region: "top", "bottom", "dress", "full" or label classes.
            callback: Is told of the progress after each step; when it returns True the optimisation stops with the
                best step so far.

        Returns:
            The try-on, on the device of the generator.

        Raises:
            RegionError: If the region is unknown, or a garment's picture does not show it.
            LossError: If a loss raises an error of shape, is not finite at the start, or has no gradient; it is named.
            ShapeError: If the latents do not fit each other or the generator.
            ConfigError: If a latent belongs to another generator, or lies on another device.
        """
        note_process()
        began = time.perf_counter()
        person, garment = match_pairs(self.generator, person, garment)
        generator = adapt(self.generator, person)
        deadline = None if self.time_limit is None else began + self.time_limit
        modules = [getattr(loss, "features", None) for loss in self.losses.values()]
        chunks: list[_Chunk] = []
        # The caller may have switched gradients off; tensors of inference mode could not take part in them.
        with torch.inference_mode(False), frozen(generator, *modules):
            for first in range(0, len(person), self.batch_size):
                part = slice(first, first + self.batch_size)
                chunk = _Chunk(self, generator, person[part], garment[part], region, first, deadline)
                # A stop is for the whole call; pairs that never started are drawn as they began.
                chunk.stopped = bool(chunks) and chunks[-1].stopped
                chunks.append(chunk.run(callback))
            return _join(chunks, person, garment, self, began)


class _Chunk:
    """One batch of pairs under optimisation."""

    def __init__(
        self,
        settings: TryOnOptimizer,
        generator: Generator,
        person: Latent,
        garment: Latent,
        region: Region,
        first: int,
        deadline: float | None,
    ) -> None:
        self.settings = settings
        self.person, self.garment = person, garment
        self.first, self.deadline = first, deadline
        self.generator = generator
        self.targets = draw_targets(generator, person, garment, region, first=first)
        self.stopped = False
        with self._precision():
            self.draw = draw_in(generator, person.pose)
        count, device = len(person), person.device
        self.sizes = [style.shape[1] for style in person.styles]
        self.variable = self._start()
        self.adam = Adam([self.variable], betas=SHORT_BETAS)
        self.step = 0
        self.history: list[Tensor] = []  # (losses and total, b) of each step
        self.status = TryOnStatus.STEP_LIMIT
        # What a step writes stays where it is, so that a graph can write it too.
        self.values = torch.zeros(len(settings.losses) + 1, count, dtype=torch.float32, device=device)
        self.number = torch.zeros((), dtype=torch.long, device=device)  # the step's, as kernels see it
        self.best_total = torch.full((count,), torch.inf, dtype=torch.float32, device=device)
        self.best_variable = self.variable.clone()
        self.best_step = torch.zeros(count, dtype=torch.long, device=device)
        self.best = (
            torch.zeros_like(self.targets.person.image),
            torch.zeros_like(self.targets.person.logits),
        )
        self.stale = torch.zeros(count, dtype=torch.long, device=device)
        self.milestone = torch.full((count,), torch.inf, dtype=torch.float32, device=device)
        self.converged = torch.zeros(count, dtype=torch.bool, device=device)
        self.broken = torch.zeros(count, dtype=torch.bool, device=device)
        self.prepared: dict[str, Any] = {}

    def run(self, callback: Callable[[TryOnProgress], bool | None] | None) -> _Chunk:
        """Optimise until something ends it."""
        settings = self.settings
        with torch.no_grad():
            for name, loss in settings.losses.items():
                with _named(name, "prepare"):
                    self.prepared[name] = loss.prepare(self.targets)
        parts = {"the generator": self.generator, **{f"losses[{n!r}]": loss for n, loss in settings.losses.items()}}
        advance = Repeated(self._advance, self.person.device, parts, count=settings.steps, wanted=settings.graph)
        for step in range(settings.steps + 1):
            self.step, last = step, step == settings.steps
            if last:
                # The first step is differentiated even if it is the only one: a loss must show that it has a gradient.
                with torch.enable_grad() if step == 0 else torch.no_grad():
                    self._evaluate(self.variable.detach().requires_grad_())
            else:
                self.adam.set_rate(settings.learning_rate)
                advance()
            self.history.append(self.values.clone())
            self.stopped = self.stopped or (callback is not None and self._tell(callback))
            if self.stopped:
                self.status = TryOnStatus.STOPPED
                break
            if last:
                break
            if self.deadline is not None and time.perf_counter() >= self.deadline:
                self.status = TryOnStatus.TIME_LIMIT
                break
            if step % _LOOK == 0 and bool((self.converged | self.broken).all()):
                break
        return self

    def coefficients(self, variable: Tensor) -> tuple[Tensor, ...]:
        """Turn what is optimised into one `(b, C_l)` per layer."""
        q = torch.sigmoid(variable) if self.settings.bound == "sigmoid" else variable
        if self.settings.per == "layer":
            return tuple(q[:, i : i + 1].expand(-1, size) for i, size in enumerate(self.sizes))
        return torch.split(q, self.sizes, dim=1)

    def statuses(self) -> list[TryOnStatus]:
        """Why each pair ended."""
        return [
            TryOnStatus.NON_FINITE if broken else TryOnStatus.CONVERGED if converged else self.status
            for broken, converged in zip(self.broken.tolist(), self.converged.tolist(), strict=True)
        ]

    def _start(self) -> Tensor:
        settings = self.settings
        count, device = len(self.person), self.person.device
        inside = self.targets.region_attribution
        initial = settings.initial
        if initial == "channel_masks":
            if self.targets.channel_masks is None:
                raise ConfigError(
                    "'channel_masks' needs a generator that has learnt them; use 'attribution'", argument="initial"
                )
            layers: Sequence[Tensor] = [mask.expand(count, -1) for mask in self.targets.channel_masks]
        elif initial == "greedy":
            layers = greedy_query(inside)
        elif initial == "attribution":
            layers = inside
        elif initial == "random":
            rng = seeded(settings.seed)
            # The same for each pair, so that none depends on its place in the batch.
            layers = [
                torch.rand(1, size, generator=rng, dtype=torch.float32, device="cpu").to(device).expand(count, -1)
                for size in self.sizes
            ]
        else:
            start = torch.full((), float(initial), dtype=torch.float32, device=device)
            layers = [start.expand(count, size) for size in self.sizes]
        if settings.per == "layer":
            q = torch.cat([layer.mean(dim=1, keepdim=True) for layer in layers], dim=1)
        else:
            q = torch.cat(tuple(layers), dim=1)
        return q.clamp(0.02, 0.98).logit() if settings.bound == "sigmoid" else q.clamp(0, 1).clone()

    def _advance(self) -> None:
        """Evaluate the coefficients and move on from them. Looks at no value once it has been called before."""
        # A new leaf each time: what autograd keeps of a leaf belongs to the stream that first used it.
        variable = self.variable.detach().requires_grad_()
        with torch.enable_grad():
            objective = self._evaluate(variable).sum()
        self.adam.step(torch.autograd.grad(objective, [variable]))
        if self.settings.bound == "clamp":
            self.variable.clamp_(0, 1)
        else:
            self.variable.clamp_(-_FARTHEST, _FARTHEST)

    def _evaluate(self, variable: Tensor) -> Tensor:
        """Draw and judge a step, and keep what is best of it; return its total, `(b,)`."""
        state = self._draw(variable)
        total, values = self._judge(state)
        self._keep(variable.detach(), state.drawing, total.detach(), values)
        return total

    def _draw(self, variable: Tensor) -> TryOnState:
        coefficients = self.coefficients(variable)
        styles = blend_styles(self.person.styles, self.garment.styles, coefficients)
        with self._precision():
            drawing = self.draw(styles, noise=self.person.noise)
        if self.settings.autocast is not None:
            drawing = GeneratorOutput(drawing.image.float(), drawing.logits.float())
        return TryOnState(self.step, coefficients, styles, drawing)

    def _precision(self) -> torch.autocast:
        dtype = self.settings.autocast
        return torch.autocast(self.person.device.type, dtype=dtype or torch.bfloat16, enabled=dtype is not None)

    def _judge(self, state: TryOnState) -> tuple[Tensor, Tensor]:
        """Return the total, `(b,)`, and for the history all losses and the total, `(losses + 1, b)`."""
        settings, count = self.settings, len(self.person)
        judged = []
        for name, loss in settings.losses.items():
            with _named(name, "forward"):
                values = loss.forward(state, self.prepared[name])
            if state.step == 0:
                check_values(f"losses[{name!r}]", values, count)
            elif not isinstance(values, Tensor) or values.shape != (count,):
                raise LossError(
                    f"expected shape ({count},) at step {state.step}, got {values!r}", argument=f"losses[{name!r}]"
                )
            judged.append(values)
        weighted = [weight * values for weight, values in zip(settings.weights.values(), judged, strict=True)]
        total = torch.stack(weighted).sum(dim=0)
        return total, torch.stack([values.detach().float() for values in (*judged, total)])

    @torch.no_grad()
    def _keep(self, variable: Tensor, drawing: GeneratorOutput, total: Tensor, values: Tensor) -> None:
        over = self.converged | self.broken
        self.values.copy_(values.masked_fill(over, torch.nan))
        self.broken |= ~torch.isfinite(total) & ~over
        better = (total < self.best_total) & ~over & ~self.broken
        replace_rows(self.best_total, better, total)
        replace_rows(self.best_step, better, self.number)
        replace_rows(self.best_variable, better, variable)
        for kept, drawn in zip(self.best, (drawing.image, drawing.logits), strict=True):
            replace_rows(kept, better, drawn)
        # Progress is measured from the last milestone, or many small gains would count as none.
        gained = total < self.milestone - self.settings.tolerance * self.milestone.abs().nan_to_num(posinf=0.0)
        replace_rows(self.milestone, gained, total)
        self.stale.add_(1).masked_fill_(gained, 0)
        if self.settings.patience:
            self.converged |= (self.stale >= self.settings.patience) & ~self.broken
        self.number += 1

    def _tell(self, callback: Callable[[TryOnProgress], bool | None]) -> bool:
        progress = TryOnProgress(
            self.step + 1,
            self.settings.steps + 1,
            dict(zip([*self.settings.losses, "total"], self.history[-1].unbind(), strict=True)),
            self.best_total.clone(),
            self.first,
            len(self.person),
        )
        return callback(progress) is True


@contextmanager
def _named(name: str, call: str) -> Iterator[None]:
    """Say whose loss raised an error. Running out of memory is nobody's fault."""
    try:
        yield
    except (StyleTryOnError, torch.cuda.OutOfMemoryError):
        raise
    except Exception as error:
        raise LossError(f"{call} raised {type(error).__name__}: {error}", argument=f"losses[{name!r}]") from error


def _read_losses(losses: Losses) -> tuple[dict[str, float], dict[str, TryOnLoss]]:
    weights, judges = {}, {}
    if not losses:
        raise ConfigError(
            "expected at least one, got an empty mapping; leave it out for the defaults", argument="losses"
        )
    for name, entry in losses.items():
        if name == "total":
            raise ConfigError("the name 'total' is taken by the weighted sum; choose another", argument="losses")
        try:
            weight, loss = entry
            weights[name] = float(weight)
        except (TypeError, ValueError) as error:
            raise LossError(f"expected (weight, loss), got {entry!r}", argument=f"losses[{name!r}]") from error
        if not math.isfinite(weights[name]):
            raise RangeError(f"expected a finite weight, got {weight}", argument=f"losses[{name!r}]")
        judges[name] = as_loss(loss)
    return weights, judges


@torch.no_grad()
def _join(
    chunks: Sequence[_Chunk], person: Latent, garment: Latent, settings: TryOnOptimizer, began: float
) -> TryOnBatch:
    parts = [chunk.coefficients(chunk.best_variable) for chunk in chunks]
    coefficients = tuple(torch.cat(layer).contiguous() for layer in zip(*parts, strict=True))
    length = max(len(chunk.history) for chunk in chunks)
    columns = []
    for chunk in chunks:
        taken = torch.stack(chunk.history, dim=1).cpu()  # (losses and total, steps, b)
        missing = taken.new_full((len(taken), length - len(chunk.history), taken.shape[2]), torch.nan)
        columns.append(torch.cat([taken, missing], dim=1))
    history = dict(zip([*settings.losses, "total"], torch.cat(columns, dim=2).unbind(), strict=True))
    return TryOnBatch(
        coefficients=coefficients,
        styles=blend_styles(person.styles, garment.styles, coefficients),
        drawing=GeneratorOutput(
            torch.cat([chunk.best[0] for chunk in chunks]), torch.cat([chunk.best[1] for chunk in chunks])
        ),
        targets=_join_targets([chunk.targets for chunk in chunks]),
        person=person,
        garment=garment,
        history=history,
        weights=dict(settings.weights),
        best_step=torch.cat([chunk.best_step for chunk in chunks]).cpu(),
        status=tuple(status for chunk in chunks for status in chunk.statuses()),
        seconds=time.perf_counter() - began,  # once the history has been waited for
        layer_names=tuple(settings.generator.style_names),
    )


def _join_targets(parts: Sequence[TryOnTargets]) -> TryOnTargets:
    if len(parts) == 1:
        return parts[0]

    def drawings(items: Sequence[GeneratorOutput]) -> GeneratorOutput:
        return GeneratorOutput(torch.cat([item.image for item in items]), torch.cat([item.logits for item in items]))

    def layers(items: Sequence[tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
        return tuple(torch.cat(layer) for layer in zip(*items, strict=True))

    return TryOnTargets(
        person=drawings([part.person for part in parts]),
        garment=drawings([part.garment for part in parts]),
        redrawn=drawings([part.redrawn for part in parts]),
        person_styles=layers([part.person_styles for part in parts]),
        garment_styles=layers([part.garment_styles for part in parts]),
        person_attribution=layers([part.person_attribution for part in parts]),
        garment_attribution=layers([part.garment_attribution for part in parts]),
        region=parts[0].region,
        channel_masks=parts[0].channel_masks,
    )


