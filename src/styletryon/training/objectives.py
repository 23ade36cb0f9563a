"""The losses that training minimises: pure functions of drawings, logits and targets."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from styletryon.generator import GeneratorOutput
from styletryon.labels import Label
from styletryon.pose import NUM_TORSO_WAVES, Pose, body_maps

SCALES = 4
"""Sizes at which pixels are compared, each half of the one before."""
_WAVE_HEIGHT = 64  # waves along the body are measured at this height
_WAVE_WEIGHT = 9.0
_STYLE_PER_WAVE = 8.0  # the style of a wave whose strength in the picture is 1
_PRINTED = (Label.TOP, Label.OUTERWEAR, Label.DRESS)


def one_hot(labels: Tensor, num_labels: int) -> Tensor:
    """Turn classes `(B, H, W)` into `(B, K, H, W)` float32 of zeros and ones."""
    return F.one_hot(labels.long(), num_labels).permute(0, 3, 1, 2).float()


def hard_labels(logits: Tensor) -> Tensor:
    """Return one-hot classes `(B, K, H, W)` whose gradient is that of the probabilities (straight-through).

    A discriminator tells soft probabilities from real one-hot labels at a glance; this takes that cue away.
    """
    soft = torch.softmax(logits.float(), dim=1)
    # On the CPU `max` is five times as fast as `argmax`.
    hard = one_hot(soft.max(dim=1).indices, soft.shape[1])
    return hard + soft - soft.detach()


def reconstruction(
    drawing: GeneratorOutput, images: Tensor, labels: Tensor, pose: Pose, *, finest: int = 0
) -> dict[str, Tensor]:
    """Compare drawings with pictures: pixels at four scales, gradients, waves along the body, and label classes.

    Args:
        drawing: Picture `(B, 3, H, W)` and logits `(B, K, H, W)`.
        images: `(B, 3, H, W)` float in [-1, 1].
        labels: `(B, H, W)` classes.
        pose: The pose of each picture.
        finest: Halvings before pixels and their gradients are compared at all; 0 for all scales.

    Returns:
        Terms "pixel", "gradient", "wave" and "label", each a number; their sum is the reconstruction loss.
    """
    weight = pixel_weights(labels)
    drawn = drawing.image.float()
    pixel = images.new_zeros(())
    difference, coarse_weight = drawn - images, weight
    for scale in range(SCALES):
        if scale >= finest:
            pixel = pixel + (difference.abs() * coarse_weight).mean() / SCALES
        if scale == finest:
            gradient = _gradient_distance(difference, coarse_weight)
        if scale < SCALES - 1:
            difference, coarse_weight = F.avg_pool2d(difference, 2), F.avg_pool2d(coarse_weight, 2)
    entropy = F.cross_entropy(drawing.logits.float(), labels.long(), reduction="none")
    return {
        "pixel": pixel,
        "gradient": gradient,
        "wave": _WAVE_WEIGHT * wave_distance(drawn - images, pose),
        "label": 0.4 * (entropy * weight[:, 0]).mean(),
    }


def _gradient_distance(residual: Tensor, weight: Tensor) -> Tensor:
    """Compare gradients: the gradient of the difference is the difference of the gradients."""
    across = (residual[..., 1:] - residual[..., :-1]).abs() * weight[..., 1:]
    down = (residual[..., 1:, :] - residual[..., :-1, :]).abs() * weight[..., 1:, :]
    return 0.5 * (across.mean() + down.mean())


def wave_distance(residual: Tensor, pose: Pose) -> Tensor:
    """Return how strong the waves along the body are in the difference of two pictures.

    A stripe that is half a period off costs pixels more than no stripe, so pixels teach the mean colour until every
    phase is right. Wave by wave, a pattern that is partly right is better than none.

    Args:
        residual: `(B, 3, H, W)` drawings less pictures.
        pose: B poses.
    """
    factor = max(residual.shape[2] // _WAVE_HEIGHT, 1)
    small = F.avg_pool2d(residual, factor)
    maps = body_maps(pose.keypoints, pose.size, (small.shape[2], small.shape[3])).flatten(2)  # (B, M, h * w)
    energy: Tensor = torch.linalg.vector_norm(maps, dim=-1).square() + 1.0
    # The few colours first: the gradient is then a product with the maps as they lie in memory.
    return (torch.bmm(small.flatten(2), maps.transpose(1, 2)) / energy[:, None]).abs().mean()


@torch.no_grad()
def printed_waves(images: Tensor, labels: Tensor, pose: Pose) -> Tensor:
    """Measure how strong each wave on the torso is in the brightness of what is worn there.

    Args:
        images: `(B, 3, H, W)` in [-1, 1].
        labels: `(B, H, W)` classes.
        pose: B poses.

    Returns:
        `(B, NUM_TORSO_WAVES)`: the coefficients of the sines and cosines along, across and aslant the torso; about zero
        for plain cloth, and where nothing is worn on the torso.
    """
    factor = max(images.shape[2] // _WAVE_HEIGHT, 1)
    worn = torch.stack([labels == int(label) for label in _PRINTED]).any(dim=0)
    mask = F.avg_pool2d(worn[:, None].float(), factor)
    bright = F.avg_pool2d(images.mean(dim=1, keepdim=True), factor)
    mean = (bright * mask).sum(dim=(2, 3), keepdim=True) / mask.sum(dim=(2, 3), keepdim=True).clamp(min=1)
    maps = body_maps(pose.keypoints, pose.size, (mask.shape[2], mask.shape[3]))[:, :NUM_TORSO_WAVES] * mask
    detail = ((bright - mean) * mask).flatten(2)  # (B, 1, h * w)
    energy: Tensor = maps.flatten(2).square().sum(dim=2) + 1.0
    return torch.bmm(maps.flatten(2), detail.transpose(1, 2))[..., 0] / energy


def print_distance(styles: Sequence[Tensor], waves: Tensor) -> Tensor:
    """Return how far the styles of waves are from what the strength of the waves in the picture asks for.

    Whether a wave is drawn depends on encoder, style and layer at once, and each learns next to nothing while the
    others have not: stripes across the body never came. The picture itself says what the styles shall be.

    Args:
        styles: The styles of the layers that see the body's coordinates, each `(B, NUM_BODY_MAPS)`.
        waves: `(B, NUM_TORSO_WAVES)`: see `printed_waves`.
    """
    apart = [style[:, :NUM_TORSO_WAVES].float() / _STYLE_PER_WAVE - waves for style in styles]
    return torch.stack([difference.square().sum(dim=1) for difference in apart]).mean()


def pixel_weights(labels: Tensor) -> Tensor:
    """Return how much each pixel counts, `(B, 1, H, W)`: the person three times the background, the face six times."""
    person = (labels != Label.BACKGROUND).float()
    face = (labels == Label.FACE).float()
    return (1.0 + 2.0 * person + 3.0 * face)[:, None]


def generator_logistic(fake: Tensor) -> Tensor:
    """Return the non-saturating logistic loss of the generator (Goodfellow et al. 2014)."""
    return F.softplus(-fake).mean()


def discriminator_logistic(real: Tensor, fake: Tensor) -> Tensor:
    """Return the logistic loss of the discriminator."""
    return F.softplus(-real).mean() + F.softplus(fake).mean()


def generator_hinge(fake: Tensor) -> Tensor:
    """Return the generator's part of the hinge loss (Lim and Ye 2017, arXiv 1705.02894)."""
    return -fake.mean()


def discriminator_hinge(real: Tensor, fake: Tensor) -> Tensor:
    """Return the discriminator's part of the hinge loss."""
    return F.relu(1 - real).mean() + F.relu(1 + fake).mean()


def r1_penalty(logits: Tensor, inputs: Sequence[Tensor]) -> Tensor:
    """Return the mean squared gradient of the logits at real inputs (Mescheder et al. 2018, arXiv 1801.04406)."""
    gradients = torch.autograd.grad(logits.sum(), list(inputs), create_graph=True)
    return torch.stack([gradient.square().flatten(1).sum(dim=1) for gradient in gradients]).sum(dim=0).mean()


def path_lengths(images: Tensor, w: Tensor, noise: Tensor) -> Tensor:
    """Return the length of the gradient of a random projection of the pictures by w (arXiv 1912.04958, equation 4).

    Args:
        images: `(B, 3, H, W)`, drawn from `w`.
        w: `(B, w_dim)`, requiring gradients.
        noise: Standard normal numbers of the pictures' shape.
    """
    scale = math.sqrt(images.shape[2] * images.shape[3])
    (gradient,) = torch.autograd.grad((images * noise / scale).sum(), w, create_graph=True)
    return gradient.square().sum(dim=1).sqrt()


def fit_mapping(
    mapping: Callable[[Tensor], Tensor],
    parameters: Sequence[Tensor],
    codes: Tensor,
    z_dim: int,
    *,
    steps: int,
    rng: torch.Generator,
    learning_rate: float = 0.3,
    batch_size: int = 512,
) -> float:
    """Fit a mapping so that w from random z is distributed as the codes of real pictures.

    A generator trained by reconstruction never saw its mapping. Here z learns to mean the principal components of the
    codes, a Gaussian along each, so that sampled people look like projected ones.

    Args:
        mapping: Maps z `(B, z_dim)` to w `(B, w_dim)`.
        parameters: What is fitted.
        codes: `(N, w_dim)` codes of real pictures.
        z_dim: Width of z; as many components are drawn, the largest first.
        steps: Steps of Adam.
        rng: Source of z.
        learning_rate: Adam's, falling linearly to zero. It suits layers whose own rate is a hundredth.
        batch_size: Codes drawn a step.

    Returns:
        The share of the codes' variance that the mapping misses, over the last tenth of the steps.
    """
    mean = codes.mean(dim=0)
    _, spread, axes = torch.linalg.svd(codes - mean, full_matrices=False)
    deviation = (spread / math.sqrt(max(len(codes) - 1, 1)))[:z_dim]
    frame = deviation[:, None] * axes[:z_dim]  # (components, w_dim)
    variance = deviation.square().sum()
    optimizer = torch.optim.Adam(list(parameters), lr=learning_rate, betas=(0.9, 0.99))
    tail = []
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * (1 - step / steps)
        z = torch.randn(batch_size, z_dim, generator=rng).to(mean)
        z = z * z.square().mean(dim=1, keepdim=True).rsqrt()  # as the mapping itself does
        missed = (mapping(z) - mean - z[:, : len(frame)] @ frame).square().sum(dim=1).mean() / variance
        optimizer.zero_grad(set_to_none=True)
        missed.backward()
        optimizer.step()
        if step >= steps - max(steps // 10, 1):
            tail.append(float(missed.detach()))
    return sum(tail) / len(tail)
