"""Write what each part of the method is worth into `docs/paper.md`, from the ablation in `docs/evaluation.md`.

Run `python -m tests.make_effects` when that table has changed.
"""

from __future__ import annotations

import re

from tests._support.process import ROOT

PAGE = ROOT / "docs" / "paper.md"
SOURCE = ROOT / "docs" / "evaluation.md"

ROWS = {
    "ours_without_garment": "no garment loss",
    "ours_without_identity": "no identity loss",
    "ours_without_localization": "no localization loss",
    "ours_localization_signed": "localization read as a signed difference",
    "ours_localization_l1": "localization read as an L1 norm",
    "ours_without_masks": "no learnt channel masks",
    "ours_per_layer": "one coefficient per layer",
}
MEASURES = ("fg_psnr", "garment_psnr", "identity_psnr")
_BLOCK = re.compile(r"(<!-- effects: .*? -->\n).*?(<!-- end -->)", re.DOTALL)


def ablation(text: str) -> dict[str, dict[str, float]]:
    """The means of the table below "What each part is worth": method -> measure -> mean."""
    part = text.split("### What each part is worth", 1)[1].split("\n### ", 1)[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in part.splitlines() if line[:1] == "|"]
    heading = rows[0][1:]
    means = {}
    for row in rows[2:]:
        name = re.search(r"`(\w+)`", row[0])
        if name is not None:
            means[name.group(1)] = {key: float(cell.split("±")[0]) for key, cell in zip(heading, row[1:], strict=True)}
    return means


def write(page: str, source: str) -> str:
    """The page with the table of the source's numbers."""
    means = ablation(source)
    lines = ["| left out or changed | person | garment | what should stay |", "|---|---|---|---|"]
    for row, text in ROWS.items():
        differences = [f"{means[row][measure] - means['ours'][measure]:+.2f}" for measure in MEASURES]
        lines.append(f"| {text} (`{row}`) | {' | '.join(differences)} |")
    table = "\n".join(["", *lines, "", ""])
    return _BLOCK.sub(lambda match: match.group(1) + table + match.group(2), page)


if __name__ == "__main__":
    PAGE.write_text(write(PAGE.read_text(encoding="utf-8"), SOURCE.read_text(encoding="utf-8")), encoding="utf-8")
