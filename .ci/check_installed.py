"""Use the installed wheel from outside the repository: import, draw a figure, find the command."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import styletryon


def main(environment: str) -> None:
    """Fail unless the package of `environment` is the one in use, and works."""
    where = Path(styletryon.__file__).resolve()
    if Path(environment).resolve() not in where.parents:
        raise SystemExit(f"expected the package of {environment}, imported {where}")
    latent = styletryon.generate(seed=1)
    model = styletryon.load_model()
    picture = model.synthesize(latent.styles, latent.pose).image
    print(f"styletryon {styletryon.__version__} at {where.parent}: drew {tuple(picture.shape)}")
    command = Path(environment) / "bin" / "styletryon"
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([command, "generate", "-o", f"{folder}/one.png", "--seed", "3"], check=True)
        if not Path(folder, "one.png").stat().st_size:
            raise SystemExit("styletryon generate wrote nothing")


if __name__ == "__main__":
    main(sys.argv[1])
