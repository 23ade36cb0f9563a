"""Tells the author of a loss whether it keeps the contract of a `TryOnLoss`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from styletryon.errors import LossError
from styletryon.generator import GeneratorOutput
from styletryon.labels import NUM_LABELS, Label
from styletryon.losses.contract import TryOnLoss, TryOnState, TryOnTargets, as_loss
from styletryon.losses.localization import channel_attribution

_SIZE = (32, 24)
_CHANNELS = (5, 4)
_PAIRS = 3


def check_loss(loss: TryOnLoss | Callable[[TryOnState], Tensor]) -> tuple[str, ...]:
    """Run a loss on small made-up try-ons and say whether it keeps the contract.

    Args:
        loss: A `TryOnLoss`, or a callable `state -> (B,)`.

    Returns:
        What was checked and holds, one sentence each.

    Raises:
        LossError: Naming the first part of the contract that is broken.

    Example:
        >>> from styletryon import losses
        >>> losses.check_loss(losses.IdentityLoss())[0]
        'returns one value per pair: shape (3,)'
    """
    judged = as_loss(loss)
    name = type(loss).__name__ if isinstance(loss, TryOnLoss) else getattr(loss, "__name__", repr(loss))
    # Where the caller has switched gradients off, no loss would have one.
    with torch.inference_mode(False), torch.enable_grad():
        return _check(name, judged)


def _check(name: str, judged: TryOnLoss) -> tuple[str, ...]:
    targets = _make_targets()
    before = _copy(targets)
    with torch.no_grad():
        prepared = _guard(name, "prepare(targets)", judged.prepare, targets)
    reached = False
    for seed in range(3):
        state = make_state(targets, seed)
        kept = tuple(value.detach().clone() for value in state.coefficients)
        values = _guard(name, "forward(state, prepared)", judged.forward, state, prepared)
        check_values(name, values, _PAIRS)
        gradients = torch.autograd.grad(values.sum(), state.coefficients, allow_unused=True, retain_graph=True)
        for gradient in gradients:
            if gradient is not None and not bool(torch.isfinite(gradient).all()):
                raise LossError(
                    "its gradient is not finite; look for sqrt(0), log(0) or a division by zero", argument=name
                )
            reached = reached or (gradient is not None and bool((gradient != 0).any()))
        if any(bool((a != b).any()) for a, b in zip(kept, state.coefficients, strict=True)):
            raise LossError("forward changed the state in place; work on a copy", argument=name)
        if seed == 0:
            _check_repeats(name, judged, prepared, state, values)
            _check_alone(name, judged, targets, values)
    if not reached:
        raise LossError(
            "no gradient reaches the coefficients; a detach(), no_grad(), argmax, round or comparison "
            "cuts it; use state.probabilities instead of labels",
            argument=name,
        )
    if any(bool((a != b).any()) for a, b in zip(before, _copy(targets), strict=True)):
        raise LossError("it changed the targets in place; work on a copy", argument=name)
    return (
        f"returns one value per pair: shape ({_PAIRS},)",
        "its values and gradients are finite",
        "its gradient reaches the coefficients",
        "it judges each pair on its own",
        "it repeats itself exactly",
        "it leaves targets and state as they were",
    )


def check_values(name: str, values: object, pairs: int) -> None:
    """Raise unless the values of a loss have the right shape, are finite and carry a gradient.

    Args:
        name: The loss's name.
        values: What `forward` returned.
        pairs: B.

    Raises:
        LossError: Naming the loss and what is wrong.
    """
    if not isinstance(values, Tensor):
        raise LossError(f"expected a tensor of shape ({pairs},), got {type(values).__name__}", argument=name)
    if values.shape != (pairs,) or not values.is_floating_point():
        raise LossError(
            f"expected one float per pair, shape ({pairs},), got {tuple(values.shape)} {values.dtype}; "
            "take the mean over all dimensions but the first",
            argument=name,
        )
    if not bool(torch.isfinite(values).all()):
        raise LossError(
            f"expected finite values, got {values.detach().tolist()}; look for log(0) or 0 / 0", argument=name
        )
    if not values.requires_grad:
        raise LossError(
            "it has no gradient; compute it from the state without detach(), no_grad() or argmax", argument=name
        )


def _guard(name: str, call: str, function: Callable[..., Any], *arguments: object) -> Any:
    try:
        return function(*arguments)
    except Exception as error:  # the author's own code may raise anything
        raise LossError(f"{call} raised {type(error).__name__}: {error}", argument=name) from error


def _check_repeats(name: str, loss: TryOnLoss, prepared: Any, state: TryOnState, values: Tensor) -> None:
    again = _guard(name, "forward(state, prepared) a second time", loss.forward, replace(state, _features={}), prepared)
    check_values(name, again, _PAIRS)
    if not torch.equal(again, values):
        raise LossError(
            f"the same state gave {values.tolist()} and then {again.tolist()}; fix its randomness", argument=name
        )


def _check_alone(name: str, loss: TryOnLoss, targets: TryOnTargets, values: Tensor) -> None:
    for index in range(_PAIRS):
        alone = _take(targets, index)
        with torch.no_grad():
            prepared = _guard(name, "prepare(targets) of one pair", loss.prepare, alone)
        state = make_state(alone, 0, index)
        single = _guard(name, "forward(state, prepared) of one pair", loss.forward, state, prepared)
        check_values(name, single, 1)
        if not torch.allclose(single[0], values[index], rtol=1e-3, atol=1e-5):
            raise LossError(
                f"pair {index} gets {values[index].item():.6g} in a batch and {single[0].item():.6g} alone; "
                "do not take means over the first dimension",
                argument=name,
            )


def _draw(styles: tuple[Tensor, ...]) -> GeneratorOutput:
    """A drawing that depends smoothly on the styles and shows a head, a torso, arms and legs."""
    rng = torch.Generator().manual_seed(1)
    height, width = _SIZE
    down = torch.linspace(-1, 1, height, dtype=torch.float32, device="cpu")[:, None].expand(height, width)
    across = torch.linspace(-1, 1, width, dtype=torch.float32, device="cpu")[None, :].expand(height, width)
    length = 0.1 + 0.3 * torch.tanh(styles[0][:, 0])[:, None, None]
    likely = {
        Label.BACKGROUND: 6 * (across.abs() - 0.6).expand(len(styles[0]), -1, -1),
        Label.HAIR: 12 * (-0.8 - down).expand(len(styles[0]), -1, -1),
        Label.FACE: 8 * (-0.5 - down).expand(len(styles[0]), -1, -1),
        Label.SKIN: 8 * (across.abs() - 0.4).expand(len(styles[0]), -1, -1) - 0.5,
        Label.TOP: 3 - 8 * (down - length + 0.3).abs(),
        Label.BOTTOM: 8 * (down - length),
    }
    blank = torch.full((len(styles[0]), height, width), -8.0, dtype=torch.float32, device="cpu")
    logits = torch.stack([likely.get(Label(k), blank) for k in range(NUM_LABELS)], dim=1)
    codes = torch.cat(styles, dim=1)
    basis = functional.interpolate(
        _normal(rng, 1, codes.shape[1] * 3, 8, 6), _SIZE, mode="bilinear", align_corners=False
    )
    image = torch.tanh(torch.einsum("bc,cdhw->bdhw", codes, basis.view(codes.shape[1], 3, *_SIZE)) * 0.5)
    return GeneratorOutput(image, logits)


def _normal(rng: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=rng, dtype=torch.float32, device="cpu")


def _make_targets() -> TryOnTargets:
    rng = torch.Generator().manual_seed(2)

    def styles() -> tuple[Tensor, ...]:
        return tuple(_normal(rng, _PAIRS, channels) for channels in _CHANNELS)

    person, garment = styles(), styles()
    drawings = (_draw(person), _draw(garment))
    attributions = []
    for drawing in drawings:
        onehot = functional.one_hot(drawing.labels.long(), NUM_LABELS).permute(0, 3, 1, 2)
        activations = [_normal(rng, _PAIRS, channels, 8, 6) for channels in _CHANNELS]
        attributions.append(tuple(channel_attribution(activations, onehot)))
    mirrored = GeneratorOutput(drawings[1].image.flip(3), drawings[1].logits.flip(3))
    region = frozenset({Label.TOP, Label.OUTERWEAR})
    return TryOnTargets(drawings[0], mirrored, drawings[1], person, garment, attributions[0], attributions[1], region)


def make_state(targets: TryOnTargets, seed: int, pair: int | None = None) -> TryOnState:
    """A made-up step of a made-up try-on; of one `pair`, the same as that pair's in the whole batch."""
    rng = torch.Generator().manual_seed(100 + seed)
    chosen = slice(None) if pair is None else slice(pair, pair + 1)
    coefficients = tuple(
        torch.rand(_PAIRS, channels, generator=rng, dtype=torch.float32, device="cpu")[chosen]
        .clone()
        .requires_grad_()
        for channels in _CHANNELS
    )
    both = zip(targets.person_styles, targets.garment_styles, coefficients, strict=True)
    styles = tuple(torch.lerp(ours, theirs, q) for ours, theirs, q in both)
    return TryOnState(seed, coefficients, styles, _draw(styles))


def _take(targets: TryOnTargets, index: int) -> TryOnTargets:
    part = slice(index, index + 1)

    def some(tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return tuple(tensor[part] for tensor in tensors)

    def one(drawing: GeneratorOutput) -> GeneratorOutput:
        return GeneratorOutput(drawing.image[part], drawing.logits[part])

    return TryOnTargets(
        person=one(targets.person),
        garment=one(targets.garment),
        redrawn=one(targets.redrawn),
        person_styles=some(targets.person_styles),
        garment_styles=some(targets.garment_styles),
        person_attribution=some(targets.person_attribution),
        garment_attribution=some(targets.garment_attribution),
        region=targets.region,
        channel_masks=targets.channel_masks,
    )


def _copy(targets: TryOnTargets) -> list[Tensor]:
    drawings = (targets.person, targets.garment, targets.redrawn)
    tensors = [tensor for drawing in drawings for tensor in (drawing.image, drawing.logits)]
    tensors += [*targets.person_styles, *targets.garment_styles]
    tensors += [*targets.person_attribution, *targets.garment_attribution]
    return [tensor.clone() for tensor in tensors]
