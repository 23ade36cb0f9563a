"""`styletryon demo | try-on | project | generate`: pictures from the command line."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import styletryon
from styletryon import photo  # its names are imported when they are used
from styletryon._files import write_bytes
from styletryon.cli._common import (
    SEED_HELP,
    WORN,
    Commands,
    Explain,
    add_command,
    add_garment_worn,
    add_model_options,
    add_try_on_options,
    shown_progress,
    shown_stages,
    summary,
    use_threads,
    write_json,
)
from styletryon.cli._paths import Results, check_inputs, check_outputs
from styletryon.errors import ConfigError, RangeError
from styletryon.labels import order_worn
from styletryon.tryon.presets import PRESETS

if TYPE_CHECKING:
    from styletryon.pose import Pose
    from styletryon.tryon import TryOnResult


def add_commands(commands: Commands) -> None:
    """Add the commands of this module."""
    _add_demo(commands)
    _add_try_on(commands)
    _add_project(commands)
    _add_generate(commands)


SAMPLES = Path(styletryon.__file__).parent / "samples"
"""Photographs of two people who do not exist, `person.jpg` and `garment.jpg`, with their licence."""

DEMO_PERSON = 20_000_010
DEMO_GARMENT = 20_000_008
DEMO_SIZE = (512, 384)
"""The rendered figures of `styletryon demo`, whom no training saw, and the size of their pictures."""


def _add_demo(commands: Commands) -> None:
    parser = add_command(
        commands, "demo", _demo, "dress a person in another's garment, in photographs and rendered; needs no network"
    )
    parser.add_argument(
        "out",
        type=Path,
        metavar="OUT",
        help="folder for person.jpg, garment.jpg, tryon.png, figure.png, report.json and rendered.png",
    )
    parser.add_argument(
        "--person-seed", default=DEMO_PERSON, type=int, help="rendered figure to dress (default: %(default)s)"
    )
    parser.add_argument(
        "--garment-seed", default=DEMO_GARMENT, type=int, help="rendered figure to copy (default: %(default)s)"
    )
    add_try_on_options(parser)


def _demo(arguments: argparse.Namespace) -> int:
    out: Path = arguments.out
    pictures = {name: out / f"{name}.jpg" for name in ("person", "garment")}
    made = {name: out / f"{name}.png" for name in ("tryon", "figure", "rendered")}
    check_outputs(folders={"out": out})
    check_outputs(files=pictures | made | {"report": out / "report.json"})
    results = Results(arguments.command)
    written = [results.write(path, partial(_copy, SAMPLES / path.name)) for path in pictures.values()]
    settings = {name: getattr(arguments, name) for name in ("region", "model", "preset", "seed", "device")}
    with shown_stages(arguments) as stages:
        use_threads(arguments)
        photographed = styletryon.try_on(
            SAMPLES / "person.jpg", SAMPLES / "garment.jpg", progress=shown_progress(stages), **settings
        )
    written.append(results.write(made["tryon"], photographed.save))
    written.append(results.write(made["figure"], partial(photo.save_image, photographed.figure())))
    written.append(results.write(out / "report.json", partial(write_json, photographed.report)))
    with shown_stages(arguments) as stages:
        settings["progress"] = shown_progress(stages)
        rendered = _dress_rendered(arguments.person_seed, arguments.garment_seed, settings)
    written.append(results.write(made["rendered"], partial(photo.save_image, rendered.figure())))
    if not arguments.quiet:
        print(summary(photographed))
        for path in written:
            print(path)
    return results.status


def _copy(source: Path, path: Path) -> None:
    write_bytes(path, source.read_bytes())


def _dress_rendered(person_seed: int, garment_seed: int, settings: Mapping[str, Any]) -> TryOnResult:
    """Dress one rendered figure in what another wears; where their keypoints are is known."""
    import torch

    from styletryon.data import paperdoll

    person, garment = (
        paperdoll.render(paperdoll.sample_figure(seed), DEMO_SIZE) for seed in (person_seed, garment_seed)
    )
    return styletryon.try_on(
        person.image,
        garment.image,
        person_pose=styletryon.Pose(torch.from_numpy(person.keypoints), DEMO_SIZE),
        garment_pose=styletryon.Pose(torch.from_numpy(garment.keypoints), DEMO_SIZE),
        **settings,
    )


OUTFIT = ("top", "bottom", "outerwear", "dress")
"""The regions of the garments that an outfit may have on the command line."""


def _add_try_on(commands: Commands) -> None:
    parser = add_command(
        commands, "try-on", _try_on, "dress the person of one picture in the garment of another, or in several garments"
    )
    parser.add_argument("person", type=Path, metavar="PERSON", help="picture of the person, or what project wrote")
    parser.add_argument(
        "garment",
        type=Path,
        nargs="?",
        metavar="GARMENT",
        help="picture of the garment, worn or by itself, or what project wrote",
    )
    outfit = parser.add_argument_group("an outfit, in the place of GARMENT and --region")
    for name in OUTFIT:
        outfit.add_argument(f"--{name}", type=Path, metavar="PICTURE", help=f"someone who wears the {name}, likewise")
    parser.set_defaults(refuse=parser.error)
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="OUT", help="picture to write")
    parser.add_argument("--figure", type=Path, help="also write person | garment | try-on side by side")
    parser.add_argument("--report", type=Path, help="also write the numbers as JSON")
    parser.add_argument("--person-pose", type=Path, metavar="JSON", help="keypoints of the person; see --pose-help")
    parser.add_argument("--garment-pose", type=Path, metavar="JSON", help="keypoints of the garment's wearer")
    parser.add_argument("--person-box", type=_box, metavar="L,T,R,B", help="pixels of the person among several")
    parser.add_argument("--garment-box", type=_box, metavar="L,T,R,B", help="the same of the garment's wearer")
    parser.add_argument(
        "--pose-help",
        action=Explain,
        text="A pose file holds 17 numbers triples [x, y, score] in COCO order, in the picture's pixels, as a JSON "
        "list; or a JSON object that maps the picture's name without ending to such a list.",
        help="say what a pose file holds",
    )
    add_garment_worn(parser)
    parser.add_argument("--no-composite", action="store_true", help="keep the whole drawing, changed or not")
    parser.add_argument("--no-detail", action="store_true", help="show cloth as drawn, not as in its photograph")
    add_try_on_options(parser)


def _try_on(arguments: argparse.Namespace) -> int:
    worn = _outfit(arguments)
    person = _Given(arguments.person, "person", arguments.person_pose, "--person-pose")
    outfit = {name: _Given(path, f"--{name}", None, "") for name, path in worn.items()}
    garment = None if outfit else _Given(arguments.garment, "garment", arguments.garment_pose, "--garment-pose")
    read = [person, *outfit.values(), *([garment] if garment else [])]
    check_outputs(
        pictures={"--out": arguments.out, "--figure": arguments.figure},
        files={"--report": arguments.report},
        inputs={name: path for one in read for name, path in one.files.items()},
    )
    with shown_stages(arguments) as stages:
        use_threads(arguments)
        result = styletryon.try_on(
            person.image,
            garment.image if garment else {name: one.image for name, one in outfit.items()},
            region=arguments.region,
            model=arguments.model,
            person_pose=person.pose(),
            garment_pose=garment.pose() if garment else None,
            person_box=arguments.person_box,
            garment_box=arguments.garment_box,
            garment_worn=WORN[arguments.garment_worn],
            preset=arguments.preset,
            seed=arguments.seed,
            device=arguments.device,
            progress=shown_progress(stages),
            composite=not arguments.no_composite,
            detail=not arguments.no_detail,
        )
    results = Results(arguments.command)
    written = results.write(arguments.out, result.save)
    if arguments.figure is not None:
        results.write(arguments.figure, partial(photo.save_image, result.figure()))
    if arguments.report is not None:
        results.write(arguments.report, partial(write_json, result.report))
    if not arguments.quiet:
        print(summary(result))
        print(written)
    return results.status


def _outfit(arguments: argparse.Namespace) -> dict[str, Path]:
    """Return the pictures of an outfit by their regions; none where there is one garment."""
    paths = {name: getattr(arguments, name) for name in OUTFIT if getattr(arguments, name) is not None}
    if bool(paths) == (arguments.garment is not None):
        arguments.refuse(f"expected either GARMENT or some of {', '.join(f'--{name}' for name in OUTFIT)}")
    if not paths:
        return {}
    if arguments.region != "top":
        raise ConfigError(
            f"expected none beside an outfit, got {arguments.region!r}; leave it out", argument="--region"
        )
    for option, value in (("--garment-pose", arguments.garment_pose), ("--garment-box", arguments.garment_box)):
        if value is not None:
            raise ConfigError(
                "expected none beside an outfit, which has several wearers; project each picture with `styletryon "
                "project --pose` or `--box`, and pass what it wrote",
                argument=option,
            )
    order_worn(paths)
    return paths


def _box(text: str) -> tuple[float, ...]:
    try:
        edges = tuple(float(edge) for edge in text.split(","))
    except ValueError:
        edges = ()
    if len(edges) != 4:
        raise argparse.ArgumentTypeError(f"expected LEFT,TOP,RIGHT,BOTTOM in pixels, got {text!r}")
    return edges


class _Given:
    """A picture or a saved latent, and its keypoints, as a command names them; a picture is looked at without torch.

    Attributes:
        image: The picture, or the path of the latent.

    Args:
        path: Of the picture or the latent.
        name: What errors call it.
        pose: A file of keypoints, or None.
        option: What errors call that.

    Raises:
        ImageError: If the picture cannot be read.
        DataError: If there is no such file of keypoints.
    """

    def __init__(self, path: Path, name: str, pose: Path | None, option: str) -> None:
        self.files = {name: path, option: pose}
        self._latent = path.suffix.lower() == ".safetensors"
        self.image: Any = path if self._latent else photo.read_image(path, name=name)
        if self._latent:
            check_inputs({name: path})
        check_inputs({option: pose})
        self._entry, self._pose, self._option = path.stem, pose, option

    def pose(self) -> Pose | None:
        """Return the pose in the picture's pixels; None where no keypoints are given."""
        if self._pose is None:
            return None
        from styletryon.pose import read_pose

        picture = self.image
        size = styletryon.Latent.load(picture).pose.size if self._latent else (picture.height, picture.width)
        return read_pose(self._pose, size, entry=self._entry, argument=self._option)


def _add_project(commands: Commands) -> None:
    parser = add_command(
        commands, "project", _project, "find a picture's person in the generator's latent space, and keep it"
    )
    parser.add_argument("picture", type=Path, metavar="PICTURE", help="picture of the person")
    parser.add_argument(
        "-o",
        "--out",
        type=Path,
        required=True,
        metavar="OUT",
        help="file for try-on and Latent.load to read; the picture goes with it",
    )
    parser.add_argument("--drawing", type=Path, help="also write what the generator draws of it")
    parser.add_argument("--report", type=Path, help="also write the numbers as JSON")
    parser.add_argument("--pose", type=Path, metavar="JSON", help="keypoints; see try-on --pose-help")
    parser.add_argument("--box", type=_box, metavar="L,T,R,B", help="pixels of the person among several")
    parser.add_argument("--tune", action="store_true", help="tune the weights to the picture; they go with the latent")
    parser.add_argument("--preset", default="balanced", choices=list(PRESETS), help="default: %(default)s")
    parser.add_argument("--seed", default=0, type=int, help=SEED_HELP)
    parser.add_argument("--quiet", action="store_true", help="no progress bar and no summary")
    add_model_options(parser)


def _project(arguments: argparse.Namespace) -> int:
    given = _Given(arguments.picture, "picture", arguments.pose, "--pose")
    check_outputs(
        pictures={"--drawing": arguments.drawing},
        files={"--out": arguments.out, "--report": arguments.report},
        inputs=given.files,
    )
    with shown_stages(arguments) as stages:
        use_threads(arguments)
        model = styletryon.load_model(arguments.model, device=arguments.device)
        latent = styletryon.project(
            given.image,
            pose=given.pose(),
            box=arguments.box,
            model=model,
            preset=arguments.preset,
            seed=arguments.seed,
            progress=shown_progress(stages),
            tune=arguments.tune,
        )
    results = Results(arguments.command)
    written = results.write(arguments.out, latent.save)
    if arguments.drawing is not None:
        results.write(arguments.drawing, partial(photo.save_image, photo.to_pil(model.draw(latent).image)))
    if arguments.report is not None:
        results.write(arguments.report, partial(write_json, latent.report))
    if not arguments.quiet:
        print(", ".join(f"{name} {value:.3g}" for name, value in latent.report.items()))
        print(written)
    return results.status


def _add_generate(commands: Commands) -> None:
    parser = add_command(commands, "generate", _generate, "draw people who do not exist")
    parser.add_argument(
        "-o", "--out", type=Path, required=True, metavar="OUT", help="picture (many stand side by side), or a folder"
    )
    parser.add_argument("--seed", default=0, type=int, help="seed of the first (default: %(default)s)")
    parser.add_argument("--count", default=1, type=int, help="how many, with successive seeds (default: %(default)s)")
    parser.add_argument("--truncation", default=0.7, type=float, help="0 mean, 1 all variety (default: %(default)s)")
    add_model_options(parser)


def _generate(arguments: argparse.Namespace) -> int:
    if arguments.count < 1:
        raise RangeError(f"expected at least 1, got {arguments.count}", argument="--count")
    in_a_folder = arguments.out.is_dir() or not arguments.out.suffix
    check_outputs(**{"folders" if in_a_folder else "pictures": {"--out": arguments.out}})
    use_threads(arguments)
    model = styletryon.load_model(arguments.model, device=arguments.device)
    pictures = []
    results = Results(arguments.command)
    for seed in range(arguments.seed, arguments.seed + arguments.count):
        latent = styletryon.generate(seed=seed, model=model, truncation=arguments.truncation)
        picture = photo.to_pil(model.draw(latent).image)
        if in_a_folder:
            print(results.write(arguments.out / f"{seed:06d}.png", partial(photo.save_image, picture)))
        else:
            pictures.append(picture)
    if pictures:
        print(results.write(arguments.out, partial(photo.save_image, _side_by_side(pictures))))
    return results.status


def _side_by_side(pictures: Sequence[Any]) -> Any:
    """Lay pictures of one size out in rows of at most eight."""
    from PIL import Image

    width, height = pictures[0].size
    columns = min(len(pictures), 8)
    sheet = Image.new("RGB", (columns * width, -(-len(pictures) // columns) * height), (255, 255, 255))
    for number, picture in enumerate(pictures):
        sheet.paste(picture, (number % columns * width, number // columns * height))
    return sheet
