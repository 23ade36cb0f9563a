"""Write `weights/poses.json`, the usual poses that `styletryon.generate` draws from: `python -m tests.make_poses`."""

from __future__ import annotations

import json
from pathlib import Path

import styletryon
from styletryon.data import paperdoll

COUNT = 64
SIZE = (512, 384)
FIRST_SEED = 4_000_000


def main() -> None:
    """Take the keypoints of the first figures whose trunk is whole in the picture."""
    poses: list[list[list[float]]] = []
    seed = FIRST_SEED
    while len(poses) < COUNT:
        keypoints = paperdoll.render(paperdoll.sample_figure(seed), SIZE).keypoints
        if (keypoints[[0, 5, 6, 11, 12], 2] > 0).all():
            poses.append([[round(float(x), 1), round(float(y), 1), float(score)] for x, y, score in keypoints])
        seed += 1
    rows = ",\n".join("  " + json.dumps(pose, separators=(",", ":")) for pose in poses)
    path = Path(styletryon.__file__).parent / "weights" / "poses.json"
    path.write_text(f'{{"size": [{SIZE[0]}, {SIZE[1]}], "poses": [\n{rows}\n]}}\n', encoding="utf-8")


if __name__ == "__main__":
    main()
