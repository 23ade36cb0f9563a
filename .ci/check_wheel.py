"""Look inside a built wheel: one pure-Python wheel with everything that the library reads, and nothing else."""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[1] / "src"


def main(wheels: list[str]) -> int:
    """Check the only wheel that was built; return how many faults it has."""
    faults = []
    if len(wheels) != 1 or not wheels[0].endswith("-py3-none-any.whl"):
        faults.append(f"expected one py3-none-any wheel, got {wheels}")
    names = set(zipfile.ZipFile(wheels[0]).namelist())
    wanted = {
        path.relative_to(SOURCE).as_posix()
        for path in (SOURCE / "styletryon").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    faults += [f"missing: {name}" for name in sorted(wanted - names)]
    faults += [f"does not belong: {name}" for name in sorted(names - wanted) if ".dist-info/" not in name]
    weights = [f"styletryon/weights/{name}/config.json" for name in ("default", "large")]
    for name in ("styletryon/py.typed", *weights):
        if name not in names:
            faults.append(f"missing: {name}")
    if not any(name.endswith("licenses/LICENSE") for name in names):
        faults.append("missing: the licence")
    for fault in faults:
        print(f"{wheels[0]}: {fault}", file=sys.stderr)
    size = Path(wheels[0]).stat().st_size / 2**20
    print(f"{Path(wheels[0]).name}: {len(names)} files, {size:.1f} MiB, {len(faults)} faults")
    return len(faults)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
