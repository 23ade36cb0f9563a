"""The protocol of a generator: all that projection and try-on need of one, and what one may have beside that.

Any object that keeps `Generator` may be the `model=` of `styletryon.try_on`. The parts of `GeneratorExtras` are
optional: `background_of`, `draw_in`, `adapt`, `is_tunable`, `move_to` and `styletryon._graphs.is_capturable` say what
is done without them, and nothing else looks for them.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeGuard, TypeVar, cast

import torch
from torch import Tensor, nn

from styletryon._reprs import one_line
from styletryon.errors import ConfigError, ShapeError
from styletryon.latent import Latent, Styles
from styletryon.photo.pixels import Colour
from styletryon.pose import Pose


@dataclass(frozen=True, eq=False)
class GeneratorOutput:
    """What a generator draws: a picture and the segmentation beside it.

    Attributes:
        image: `(B, 3, H, W)` float, nominally in [-1, 1], not clamped.
        logits: `(B, K, H, W)` float, unnormalised log-probabilities of the label classes.
        activations: The input of each styled layer before its style scales it, `(B, C_l, h, w)` in the order of the
            styles; None unless asked for.
    """

    image: Tensor
    logits: Tensor
    activations: tuple[Tensor, ...] | None = None

    __repr__ = one_line

    @property
    def probabilities(self) -> Tensor:
        """`(B, K, H, W)` float32: the probability of each label class; differentiable."""
        return torch.softmax(self.logits.float(), dim=1)

    @property
    def labels(self) -> Tensor:
        """`(B, H, W)` uint8: the likeliest label class of each pixel."""
        return self.logits.argmax(dim=1).to(torch.uint8)


class Generator(Protocol):
    """All that projection and try-on need of a generator; there is nothing to derive from and nothing to register.

    `PoseStyleGAN2` keeps it, and so do the generators of `styletryon.interop`. What a generator may have beside it is
    in `GeneratorExtras`. Plain attributes serve as well as properties.
    """

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of the pictures in pixels."""
        ...

    @property
    def num_labels(self) -> int:
        """K, the number of label classes; 0 if it draws none, which suffices for projection."""
        ...

    @property
    def z_dim(self) -> int:
        """Width of the latent z."""
        ...

    @property
    def w_dim(self) -> int:
        """Width of the latent w."""
        ...

    @property
    def style_channels(self) -> tuple[int, ...]:
        """C_l of each styled layer."""
        ...

    @property
    def style_names(self) -> tuple[str, ...]:
        """A name for each styled layer, such as "32.conv0", "32.rgb" or "32.seg"."""
        ...

    @property
    def noise_shapes(self) -> tuple[tuple[int, int], ...]:
        """Height and width of each noise map."""
        ...

    @property
    def fingerprint(self) -> str:
        """A short text that is equal exactly when the weights are; a latent says by it whose it is."""
        ...

    @property
    def w_mean(self) -> Tensor:
        """`(w_dim,)` the mean of w, on the device where the generator draws."""
        ...

    @property
    def encoder(self) -> Callable[[Tensor, Pose], Tensor] | None:
        """Maps pictures `(B, 3, H, W)` in [-1, 1] and their poses to w `(B, w_dim)`; None if there is none."""
        ...

    def mapping(self, z: Tensor) -> Tensor:
        """Map z `(B, z_dim)` to w `(B, w_dim)`."""
        ...

    def affine(self, w: Tensor) -> Styles:
        """Map w `(B, w_dim)` or one w per styled layer `(B, L, w_dim)` to style codes."""
        ...

    def channel_masks(self, classes: Collection[int]) -> Styles | None:
        """How much of each style channel belongs to some label classes, `(C_l,)` per layer; None if not learnt."""
        ...

    def synthesize(
        self,
        styles: Styles,
        pose: Pose,
        *,
        noise: tuple[Tensor, ...] | None = None,
        activations: bool = False,
    ) -> GeneratorOutput:
        """Draw styles in a pose. `noise` None means the generator's own fixed noise maps."""
        ...


class GeneratorExtras(Protocol):
    """What a generator may have beside `Generator`. Each part may be missing, and each says what is done then."""

    @property
    def background(self) -> Colour | None:
        """The colour that stands behind people in its training data, or None.

        Photographs are cut out onto it before they are projected. Missing: they keep their own background.
        """
        ...

    @property
    def capturable(self) -> bool:
        """Whether `synthesize` runs the same kernels each time and lets the host wait for none.

        A CUDA graph then replays the steps, which saves time. Missing: the steps run one by one.
        """
        ...

    def encode_pose(self, pose: Pose) -> Any:
        """Return what `synthesize` takes in the place of a pose, computed once for many drawings.

        Missing: `synthesize` is handed the pose itself each time.
        """
        ...

    def to(self, device: torch.device) -> Any:
        """Move to a device, as `torch.nn.Module` does.

        Missing: the generator stays where it is, and another device is refused.
        """
        ...

    @property
    def tunable(self) -> tuple[str, ...]:
        """See `TunableGenerator`. Missing: pivotal tuning, and latents that were tuned, are refused."""
        ...

    def get_parameter(self, target: str) -> nn.Parameter:
        """See `TunableGenerator`."""
        ...

    def tuned(self, changes: Mapping[str, Tensor]) -> Any:
        """See `TunableGenerator`."""
        ...


class TunableGenerator(Generator, Protocol):
    """A generator that pivotal tuning can adapt to a photograph: a module that says which of its weights may move."""

    @property
    def tunable(self) -> tuple[str, ...]:
        """The names of the parameters that may move. Neither latents nor encoded poses depend on them."""
        ...

    def get_parameter(self, target: str) -> nn.Parameter:
        """Return a parameter by its name, as `torch.nn.Module` does."""
        ...

    def tuned(self, changes: Mapping[str, Tensor]) -> TunableGenerator:
        """Return a copy to whose weights something was added."""
        ...


AnyGenerator = TypeVar("AnyGenerator", bound=Generator)


_REQUIRED = tuple(name for name in vars(Generator) if not name.startswith("_"))


def check_generator(candidate: object, argument: str) -> Generator:
    """Return an object that keeps the protocol `Generator`.

    Args:
        candidate: The object.
        argument: What errors call it.

    Raises:
        ConfigError: If a part that is not optional is missing.
    """
    # Of the class first: to look at a property would compute it, and a fingerprint reads all weights.
    missing = [name for name in _REQUIRED if not hasattr(type(candidate), name) and not hasattr(candidate, name)]
    if isinstance(candidate, type):
        raise ConfigError(f"expected a generator, got the class {candidate.__name__}; make one", argument=argument)
    if missing:
        raise ConfigError(
            "expected a name, a folder or an object that keeps the protocol styletryon.generator.Generator, got "
            f"{type(candidate).__name__} without {', '.join(missing)}",
            argument=argument,
        )
    return cast(Generator, candidate)


def background_of(generator: Generator) -> Colour | None:
    """Return the colour that stands behind people in a generator's training data; None if it has none."""
    colour: Colour | None = getattr(generator, "background", None)
    return colour


def is_tunable(generator: Generator) -> TypeGuard[TunableGenerator]:
    """Say whether pivotal tuning can adapt a generator to a photograph."""
    return all(hasattr(generator, name) for name in ("tunable", "get_parameter", "tuned"))


def move_to(generator: AnyGenerator, device: torch.device, argument: str) -> AnyGenerator:
    """Return a generator on a device: itself where it is there already, else a copy.

    Args:
        generator: The generator. Left as it is.
        device: Where it shall draw.
        argument: What errors call the device.

    Raises:
        ConfigError: If it is on another device and has no method `to`.
    """
    own = generator.w_mean.device
    if own == device:
        return generator
    if not hasattr(generator, "to"):
        raise ConfigError(
            f"expected {str(own)!r}, where the {type(generator).__name__} is, got {str(device)!r}; it has no method "
            "`to`, so move it yourself",
            argument=argument,
        )
    with torch.inference_mode(False):
        moved: AnyGenerator = copy.deepcopy(generator).to(device)
    return moved


def adapt(generator: AnyGenerator, latent: Latent) -> AnyGenerator:
    """Return what draws a latent: the generator, or where the latent is tuned a copy with the weights for it.

    Args:
        generator: The generator that the latent belongs to. Left as it is.
        latent: The latent.

    Raises:
        ConfigError: If the latent is tuned and the generator cannot be.
        ShapeError: If the tuning belongs to another generator.
    """
    if latent.tuning is None:
        return generator
    if not is_tunable(generator):
        raise ConfigError(
            f"expected one without tuning, for {type(generator).__name__} has no method `tuned`; drop it with "
            "dataclasses.replace(latent, tuning=None)",
            argument="latent",
        )
    return cast(AnyGenerator, generator.tuned(latent.tuning))


def unwrapped(model: Any) -> Any:
    """Return what a wrapper of torch wraps: `torch.compile`, `DataParallel` and their kin; anything else as it is."""
    while isinstance(model, nn.Module):
        # A compiled module passes on whatever it is asked for, so its own name of what it holds comes first.
        inner = model._modules.get("_orig_mod") or model._modules.get("module")
        if inner is None:
            break
        model = inner
    return model


class PosedGenerator(Protocol):
    """A generator's `synthesize` with the pose given already."""

    def __call__(
        self, styles: Styles, *, noise: tuple[Tensor, ...] | None = None, activations: bool = False
    ) -> GeneratorOutput:
        """Draw styles."""
        ...


def draw_in(generator: Generator, pose: Pose) -> PosedGenerator:
    """Return a generator's `synthesize` for one pose, to be called again and again.

    A generator that offers `encode_pose(pose)` encodes it here, once and without gradients; its `synthesize` is handed
    the result in the pose's place. Any other is handed the pose.

    Args:
        generator: What draws.
        pose: The poses of the batch.
    """
    encode = getattr(generator, "encode_pose", None)
    if encode is None:
        return partial(generator.synthesize, pose=pose)
    with torch.no_grad():
        return partial(generator.synthesize, pose=encode(pose))


def check_aspect(name: str, pose: Pose, size: tuple[int, int]) -> None:
    """Raise unless poses are in a picture of the aspect of a generator's, to about a pixel.

    Args:
        name: What the caller calls the pose.
        pose: The poses.
        size: Height and width of the generator's pictures.

    Raises:
        ShapeError: If they are not.
    """
    height, width = pose.size
    if abs(height * size[1] - width * size[0]) > max(height, width, *size):
        raise ShapeError(
            f"expected keypoints in a picture of {size[0]}x{size[1]} (height x width) or its aspect, got "
            f"{height}x{width}; bring them to the generator's picture",
            argument=name,
        )
