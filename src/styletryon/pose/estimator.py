"""Pose estimators: from a photograph to the keypoints of the person in it.

`KeypointEstimator` runs the bundled network and needs nothing else. `KeypointRCNNEstimator` runs torchvision's
Keypoint R-CNN, thirty times as large, for those who have its weights. Both are plain callables that take a picture and
return a `Pose`; so is any other estimator that one wants to use instead.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Protocol, cast, final

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from styletryon.errors import (
    CheckpointError,
    CheckpointNotFoundError,
    ConfigError,
    ImageError,
    PersonNotFoundError,
    RangeError,
    WeightsUnavailableError,
)
from styletryon.pose._pose import FLIP_ORDER, NUM_KEYPOINTS, Pose
from styletryon.pose.network import KeypointConfig, KeypointNetwork

LEAST_SCORE = 0.4
"""Mean score over the 17 keypoints under which `KeypointEstimator` says that there is nobody."""

_FILL = (128, 128, 128)  # beyond the photograph; the training fills with the same grey
_FRAME_SHARE = 0.8  # of the height of the second pass's frame is the person; the training centres there
_WINDOW = 3  # heatmap pixels on each side of the peak that say where it is to a fraction of a pixel


class PoseEstimator(Protocol):
    """Anything that finds the pose of the main person in a picture."""

    def __call__(self, image: Image.Image) -> Pose:
        """Find the pose.

        Args:
            image: An RGB picture.

        Returns:
            One pose in the picture's pixels, a score in [0, 1] per keypoint.

        Raises:
            PersonNotFoundError: If nobody is found.
        """
        ...


@final
class KeypointEstimator:
    """Finds the keypoints with the bundled network, on whatever device the network is.

    Two passes of the same network: the whole photograph says roughly where the person is, a frame around them says it
    exactly. Where the whole photograph shows nobody, parts of it are tried before giving up.

    Args:
        network: The network; it is put into evaluation mode.
        refine: Whether the second pass is made.
        flip: Whether every pass also sees the mirrored picture: the average errs less, at twice the time.
        least_score: Mean score over the keypoints inside the frame under which there is nobody. 0 never raises.

    Raises:
        RangeError: If `least_score` is outside [0, 1].
    """

    def __init__(
        self,
        network: KeypointNetwork,
        *,
        refine: bool = True,
        flip: bool = True,
        least_score: float = LEAST_SCORE,
    ) -> None:
        if not 0 <= least_score <= 1:
            raise RangeError(f"least_score: expected a number in [0, 1], got {least_score}; try {LEAST_SCORE}")
        self.network = network.eval()
        self.refine = refine
        self.flip = flip
        self.least_score = least_score

    @classmethod
    def from_pretrained(cls, folder: str | PathLike[str] | None = None) -> KeypointEstimator:
        """Load a network from a folder, on the CPU.

        Args:
            folder: Holds `keypoints.json` and `keypoints.safetensors`. Default: the bundled one.

        Returns:
            An estimator with the default settings.

        Raises:
            CheckpointNotFoundError: If a file is missing.
            CheckpointError: If the files do not fit each other or this version.
        """
        place = Path(folder) if folder is not None else Path(__file__).parent.parent / "weights"
        with torch.inference_mode(False):
            return cls(load_keypoint_network(place))

    @torch.inference_mode()
    def __call__(self, image: Image.Image) -> Pose:
        """Find the pose of the main person.

        Args:
            image: A picture of any mode and size; an RGB one is taken as it is.

        Returns:
            One pose in the picture's pixels; scores say how surely a keypoint is in the picture and not hidden.
            A keypoint outside the picture has score 0.

        Raises:
            ImageError: If `image` is not a picture.
            PersonNotFoundError: If the mean score stays under `least_score`.
        """
        photo = _as_rgb(image)
        found = self._find(photo, self._around((0.0, 0.0, photo.width, photo.height)))
        if found.mean < max(self.least_score, 0.5):
            tries = [self._find(photo, box) for box in self._parts(photo.width, photo.height)]
            found = max([found, *tries], key=lambda one: one.mean)
        if self.refine and found.mean >= 0.5 * self.least_score:
            closer = self._find(photo, self._frame(found))
            # A frame that lost the person is worse than none.
            found = closer if closer.mean >= 0.7 * found.mean else found
        if found.mean < self.least_score:
            raise PersonNotFoundError(
                f"image: expected a photograph that shows a person, got a mean keypoint score of {found.mean:.2f} "
                f"(at least {self.least_score:.2f} is needed); crop it closer to the person or pass a pose"
            )
        return Pose(found.keypoints[None], (photo.height, photo.width))

    def _find(self, photo: Image.Image, box: tuple[float, float, float, float]) -> _Found:
        height, width = self.network.config.size
        device = self.network.position.device
        picture = _cut(photo, box, (height, width)).to(device)
        views = torch.stack([picture, picture.flip(-1)]) if self.flip else picture[None]
        logits, presence = self.network(views)
        maps = logits.flatten(2).softmax(-1).unflatten(2, logits.shape[-2:])  # (V, 17, h, w)
        scores = presence.sigmoid()
        if self.flip:
            maps = (maps[0] + maps[1, list(FLIP_ORDER)].flip(-1)) / 2
            scores = (scores[0] + scores[1, list(FLIP_ORDER)]) / 2
        else:
            maps, scores = maps[0], scores[0]
        x, y = _peaks(maps)
        left, top, right, bottom = box
        points = torch.stack(
            [left + x * ((right - left) / maps.shape[-1]), top + y * ((bottom - top) / maps.shape[-2]), scores], dim=-1
        ).cpu()
        return _Found(_within(points, photo), float(scores.mean()))

    def _around(self, box: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
        """Return the smallest box of the network's aspect around a box."""
        height, width = self.network.config.size
        left, top, right, bottom = box
        step = max((right - left) / width, (bottom - top) / height, 1e-3)
        x, y = (left + right) / 2, (top + bottom) / 2
        return x - step * width / 2, y - step * height / 2, x + step * width / 2, y + step * height / 2

    def _frame(self, found: _Found) -> tuple[float, float, float, float]:
        """Return the frame of the second pass: the keypoints that are there, and room for head, hands and feet."""
        points = found.keypoints
        sure = points[points[:, 2] >= min(0.3, float(points[:, 2].max()))][:, :2]
        low, high = sure.amin(0), sure.amax(0)
        person = max(float(high[1] - low[1]) * 1.15, float(high[0] - low[0]) * 1.3, 16.0)
        x, y = ((low + high) / 2).tolist()
        reach = person / 2 / _FRAME_SHARE
        return self._around((x, y - reach, x, y + reach))

    def _parts(self, width: int, height: int) -> list[tuple[float, float, float, float]]:
        """Return frames of the network's aspect that cover the photograph at two finer scales."""
        high, wide = self.network.config.size
        boxes = []
        for share in (1.0, 0.6):
            tall = share * min(float(height), width * high / wide) if width * high >= height * wide else share * height
            across = tall * wide / high
            columns = max(1, math.ceil((width - across) / (across * 0.5)) + 1) if width > across else 1
            rows = max(1, math.ceil((height - tall) / (tall * 0.5)) + 1) if height > tall else 1
            for row in range(min(rows, 5)):
                for column in range(min(columns, 7)):
                    x = (width - across) * (column / (columns - 1) if columns > 1 else 0.5)
                    y = (height - tall) * (row / (rows - 1) if rows > 1 else 0.5)
                    boxes.append((x, y, x + across, y + tall))
        return boxes


@final
class KeypointRCNNEstimator:
    """Finds the keypoints with torchvision's Keypoint R-CNN (ResNet-50, FPN): 59 million parameters, 226 MB.

    Of several people it takes the one whose box is largest, weighted by how sure the detector is.

    Args:
        weights: "coco" for torchvision's (downloaded once to torch's cache), or the path of a state dict of
            `torchvision.models.detection.keypointrcnn_resnet50_fpn` (`.pth` or `.safetensors`).
        least_score: Confidence of the detector under which a person does not count.
        side: Pixels to which the shorter side of a picture is resized before it enters.
        device: Where the network runs. Default: the CPU.

    Raises:
        RangeError: If `least_score` is outside [0, 1] or `side` is not positive.
        WeightsUnavailableError: If the weights cannot be downloaded.
        CheckpointNotFoundError: If the path leads to no file.
        CheckpointError: If the file is no state dict of that network.
    """

    def __init__(
        self,
        weights: str | PathLike[str] = "coco",
        *,
        least_score: float = 0.7,
        side: int = 800,
        device: torch.device | str | None = None,
    ) -> None:
        if not 0 <= least_score <= 1:
            raise RangeError(f"least_score: expected a number in [0, 1], got {least_score}; try 0.7")
        if side < 1:
            raise RangeError(f"side: expected a positive number of pixels, got {side}; try 800")
        self.least_score = least_score
        self.device = torch.device(device or "cpu")
        state = _download_rcnn() if weights == "coco" else _read_state(Path(weights))
        self.network = _rcnn(state, side).to(self.device)

    @torch.inference_mode()
    def __call__(self, image: Image.Image) -> Pose:
        """Find the pose of the main person.

        Args:
            image: A picture of any mode and size; an RGB one is taken as it is.

        Returns:
            One pose in the picture's pixels. The score of a keypoint is a sigmoid of the network's logit less 2,
            which is about where its keypoints become trustworthy, times the confidence of the detector.

        Raises:
            ImageError: If `image` is not a picture.
            PersonNotFoundError: If no person reaches `least_score`.
        """
        photo = _as_rgb(image)
        picture = torch.from_numpy(np.array(photo)).permute(2, 0, 1).float() / 255
        found = {key: value.cpu() for key, value in self.network([picture.to(self.device)])[0].items()}
        scores = found["scores"].float()
        sure = (found["labels"] == 1) & (scores >= self.least_score)
        if not bool(sure.any()):
            best = float(scores.max()) if len(scores) else 0.0
            raise PersonNotFoundError(
                f"image: expected a photograph that shows a person, got a best detection of {best:.2f} "
                f"(at least {self.least_score:.2f} is needed); crop it closer to the person or pass a pose"
            )
        box = found["boxes"].float()
        area = (box[:, 2] - box[:, 0]) * (box[:, 3] - box[:, 1])
        main = int((area * scores * sure).argmax())
        points = found["keypoints"][main].float().clone()
        points[:, 2] = torch.sigmoid(found["keypoints_scores"][main].float() - 2) * scores[main]
        return Pose(_within(points, photo)[None], (photo.height, photo.width))


@dataclass(frozen=True, eq=False)
class _Found:
    keypoints: Tensor  # (17, 3) in pixels of the photograph
    mean: float  # mean presence over all keypoints


def load_keypoint_network(folder: Path) -> KeypointNetwork:
    """Load a network from `keypoints.json` and `keypoints.safetensors` in a folder, on the CPU, strictly.

    Args:
        folder: Where the two files are.

    Returns:
        The network in float32, in evaluation mode, without gradients.

    Raises:
        CheckpointNotFoundError: If a file is missing.
        CheckpointError: If the files do not fit each other or this version.
    """
    settings_path, tensors_path = folder / "keypoints.json", folder / "keypoints.safetensors"
    for path in (settings_path, tensors_path):
        if not path.is_file():
            raise CheckpointNotFoundError(f"folder: expected the file {path}, got none; pass the folder that holds it")
    try:
        settings = json.loads(settings_path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise CheckpointError(f"folder: expected JSON in {settings_path}, got {error}; save it again") from error
    if not isinstance(settings, dict) or settings.pop("class", None) != "KeypointNetwork":
        raise CheckpointError(f"folder: expected the class KeypointNetwork in {settings_path}, got another")
    try:
        network = KeypointNetwork(KeypointConfig.from_dict(settings))
    except (ConfigError, TypeError, ValueError) as error:
        raise CheckpointError(f"folder: {settings_path} describes no KeypointNetwork: {error}") from error
    try:
        tensors = load_file(tensors_path, device="cpu")
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"folder: expected safetensors in {tensors_path}, got {error}; fetch it again") from error
    _load(network, tensors, "folder")
    return network.eval().requires_grad_(False)


def _load(network: nn.Module, tensors: Mapping[str, Tensor], argument: str) -> None:
    """Load tensors strictly; a mismatch names the argument that they came from."""
    own = network.state_dict()
    missing = sorted(set(own) - set(tensors))
    unexpected = sorted(set(tensors) - set(own))
    misshaped = [
        f"{key} {tuple(tensors[key].shape)} for {tuple(own[key].shape)}"
        for key in sorted(set(own) & set(tensors))
        if tensors[key].shape != own[key].shape
    ]
    if missing or unexpected or misshaped:
        raise CheckpointError(
            f"{argument}: expected the tensors of a {type(network).__name__}, got missing {missing[:4]}, "
            f"unexpected {unexpected[:4]}, of another shape {misshaped[:4]}; the file belongs to another network"
        )
    network.load_state_dict(tensors)  # copies into the network's own dtype


def _rcnn(state: Mapping[str, Tensor], side: int) -> nn.Module:
    """Build torchvision's Keypoint R-CNN as it builds it for its own weights, and load them."""
    try:
        from torchvision.models.detection import KeypointRCNN
        from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
        from torchvision.ops import FrozenBatchNorm2d
    except ImportError as error:
        raise WeightsUnavailableError(
            "KeypointRCNNEstimator: torchvision is missing; pip install torchvision, or use KeypointEstimator"
        ) from error
    with torch.random.fork_rng(devices=[]):  # its layers draw values that are replaced at once
        backbone = resnet_fpn_backbone(
            backbone_name="resnet50", weights=None, norm_layer=FrozenBatchNorm2d, trainable_layers=0
        )
        network = KeypointRCNN(
            backbone, num_classes=2, num_keypoints=NUM_KEYPOINTS, min_size=side, max_size=max(side, side * 5 // 3)
        )
    for module in network.modules():
        if isinstance(module, FrozenBatchNorm2d):
            module.eps = 0.0  # the published weights were trained so
    # Files may hold the counters of unfrozen batch normalisation, which mean nothing here.
    _load(network, {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}, "weights")
    return cast(nn.Module, network.eval().requires_grad_(False))


def _download_rcnn() -> Mapping[str, Tensor]:
    try:
        from torchvision.models.detection import KeypointRCNN_ResNet50_FPN_Weights
    except ImportError as error:
        raise WeightsUnavailableError(
            "KeypointRCNNEstimator: torchvision is missing; pip install torchvision, or use KeypointEstimator"
        ) from error
    chosen = KeypointRCNN_ResNet50_FPN_Weights.COCO_V1
    try:
        return cast(Mapping[str, Tensor], chosen.get_state_dict(progress=False, check_hash=True))
    except (OSError, RuntimeError) as error:
        raise WeightsUnavailableError(
            f"weights: 'coco' could not be downloaded ({error}); fetch {chosen.url} by other means and pass "
            "weights=PATH, or use KeypointEstimator, which is bundled"
        ) from error


def _read_state(path: Path) -> Mapping[str, Tensor]:
    if not path.is_file():
        raise CheckpointNotFoundError(f"weights: expected 'coco' or the path of a file, got {path}; there is none")
    try:
        if path.suffix == ".safetensors":
            return load_file(path, device="cpu")
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a foreign file does to a reader, the caller needs one kind of error
        raise CheckpointError(f"weights: expected a state dict in {path}, got {error}; fetch it again") from error
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise CheckpointError(f"weights: expected a state dict in {path}, got {type(state).__name__}")
    return state


def _as_rgb(image: Image.Image) -> Image.Image:
    if not isinstance(image, Image.Image):
        raise ImageError(f"image: expected a PIL image, got {type(image).__name__}; read it with PIL.Image.open")
    return image.convert("RGB")


def _within(points: Tensor, photo: Image.Image) -> Tensor:
    """Move keypoints that are outside a photograph to its edge, and say by score 0 that they are not in it."""
    limit = torch.tensor([photo.width, photo.height], dtype=points.dtype)
    inside = ((points[:, :2] >= 0) & (points[:, :2] <= limit)).all(1)
    place = torch.minimum(points[:, :2].clamp(min=0), limit)
    return torch.cat([place, (points[:, 2] * inside).clamp(0, 1)[:, None]], dim=1)


def _cut(photo: Image.Image, box: tuple[float, float, float, float], size: tuple[int, int]) -> Tensor:
    """Resample a box of a photograph, which may reach beyond it, to `(3, H, W)` in [-1, 1]."""
    height, width = size
    left, top, right, bottom = box
    step_x, step_y = (right - left) / width, (bottom - top) / height
    # Whole pixels of the result that lie inside the photograph, so that no rounding moves the picture.
    x0, x1 = max(0, math.ceil(-left / step_x)), min(width, math.floor((photo.width - left) / step_x))
    y0, y1 = max(0, math.ceil(-top / step_y)), min(height, math.floor((photo.height - top) / step_y))
    result = Image.new("RGB", (width, height), _FILL)
    if x1 > x0 and y1 > y0:
        inside = (
            max(0.0, left + x0 * step_x),
            max(0.0, top + y0 * step_y),
            min(float(photo.width), left + x1 * step_x),
            min(float(photo.height), top + y1 * step_y),
        )
        part = photo.resize((x1 - x0, y1 - y0), Image.Resampling.BILINEAR, box=inside)
        result.paste(part, (x0, y0))
    array = torch.from_numpy(np.array(result)).permute(2, 0, 1)
    return array.float() / 127.5 - 1


def _peaks(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Find the peaks of `(P, h, w)` maps to a fraction of a pixel: x and y `(P,)`, pixel centres at 0.5."""
    height, width = maps.shape[1:]
    peak = maps.flatten(1).argmax(-1)
    row, column = peak // width, peak % width
    rows = torch.arange(height, device=maps.device)
    columns = torch.arange(width, device=maps.device)
    near_row = ((rows - row[:, None]).abs() <= _WINDOW)[:, :, None]
    near_column = ((columns - column[:, None]).abs() <= _WINDOW)[:, None, :]
    near = maps * (near_row & near_column)
    near = near / near.sum((1, 2), keepdim=True).clamp(min=1e-12)
    x = (near.sum(1) * (columns + 0.5)).sum(-1)
    y = (near.sum(2) * (rows + 0.5)).sum(-1)
    return x, y
