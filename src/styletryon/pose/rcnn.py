"""torchvision's Keypoint R-CNN as a pose estimator, for those who have its weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import cast, final

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from styletryon._arguments import find_device
from styletryon._weights import load_strictly, read_state, unfilled
from styletryon.errors import PersonNotFoundError, RangeError, WeightsUnavailableError
from styletryon.pose._photo import as_box, as_rgb, within
from styletryon.pose._pose import NUM_KEYPOINTS, Pose


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
            raise RangeError(f"expected a number in [0, 1], got {least_score}; try 0.7", argument="least_score")
        if side < 1:
            raise RangeError(f"expected a positive number of pixels, got {side}; try 800", argument="side")
        self.least_score = least_score
        self.device = find_device(device or "cpu")
        state = _download_rcnn() if weights == "coco" else read_state(Path(weights), "'coco'")
        self.network = _rcnn(state, side).to(self.device)

    @torch.inference_mode()
    def __call__(self, image: Image.Image, *, box: Sequence[float] | None = None) -> Pose:
        """Find the pose of the main person.

        Args:
            image: A picture of any mode and size; an RGB one is taken as it is.
            box: Left, top, right and bottom in pixels: the person whose own box overlaps it most is taken.

        Returns:
            One pose in the picture's pixels. The score of a keypoint is a sigmoid of the network's logit less 2,
            which is about where its keypoints become trustworthy, times the confidence of the detector.

        Raises:
            ImageError: If `image` is not a picture.
            RangeError: If `box` is empty or beside the picture.
            PersonNotFoundError: If no person reaches `least_score`, or none of those is in the box.
        """
        photo = as_rgb(image)
        wanted = None if box is None else as_box(box, photo)
        picture = torch.from_numpy(np.array(photo)).permute(2, 0, 1).float() / 255
        found = {key: value.cpu() for key, value in self.network([picture.to(self.device)])[0].items()}
        scores = found["scores"].float()
        sure = (found["labels"] == 1) & (scores >= self.least_score)
        boxes = found["boxes"].float()
        area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
        rank = area * scores
        if wanted is not None:
            rank = _overlap(boxes, boxes.new_tensor(wanted))
            sure = sure & (rank > 0)
        if not bool(sure.any()):
            best = float(scores.max()) if len(scores) else 0.0
            raise PersonNotFoundError(
                f"expected a photograph that shows a person, got a best detection of {best:.2f} "
                f"(at least {self.least_score:.2f} is needed); crop it closer to the person or pass a pose",
                argument="image",
            )
        main = int(torch.where(sure, rank, -1.0).argmax())
        points = found["keypoints"][main].float().clone()
        points[:, 2] = torch.sigmoid(found["keypoints_scores"][main].float() - 2) * scores[main]
        return Pose(within(points, photo)[None], (photo.height, photo.width))


def _rcnn(state: Mapping[str, Tensor], side: int) -> nn.Module:
    """Build torchvision's Keypoint R-CNN as it builds it for its own weights, and load them."""
    try:
        from torchvision.models.detection import KeypointRCNN
        from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
        from torchvision.ops import FrozenBatchNorm2d
    except ImportError as error:
        raise WeightsUnavailableError(
            "torchvision is missing; pip install torchvision, or use BodyEstimator",
            argument="KeypointRCNNEstimator",
        ) from error
    with unfilled():
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
    tensors = {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}
    load_strictly(network, tensors, "weights")
    return cast(nn.Module, network.eval().requires_grad_(False))


def _download_rcnn() -> Mapping[str, Tensor]:
    try:
        from torchvision.models.detection import KeypointRCNN_ResNet50_FPN_Weights
    except ImportError as error:
        raise WeightsUnavailableError(
            "torchvision is missing; pip install torchvision, or use BodyEstimator",
            argument="KeypointRCNNEstimator",
        ) from error
    chosen = KeypointRCNN_ResNet50_FPN_Weights.COCO_V1
    try:
        return cast(Mapping[str, Tensor], chosen.get_state_dict(progress=False, check_hash=True))
    except (OSError, RuntimeError) as error:
        raise WeightsUnavailableError(
            f"'coco' could not be downloaded ({error}); fetch {chosen.url} by other means and pass "
            "weights=PATH, or use BodyEstimator, which is bundled",
            argument="weights",
        ) from error


def _overlap(boxes: Tensor, box: Tensor) -> Tensor:
    """Intersection over union of `(N, 4)` boxes with one."""
    sides = (torch.minimum(boxes[:, 2:], box[2:]) - torch.maximum(boxes[:, :2], box[:2])).clamp(min=0)
    both = sides.prod(1)
    return both / ((boxes[:, 2:] - boxes[:, :2]).prod(1) + (box[2:] - box[:2]).prod() - both).clamp(min=1e-6)
