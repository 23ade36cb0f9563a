"""The command line: `styletryon demo | try-on | generate | train | evaluate | paperdoll | info`."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any, NoReturn

import styletryon
from styletryon._files import write_atomically
from styletryon._version import __version__
from styletryon.errors import ConfigError, PoseError, RangeError, StyleTryOnError
from styletryon.images import read_image, save_image, to_pil
from styletryon.labels import REGIONS, Label
from styletryon.models.storage import BUNDLED
from styletryon.pose import Pose
from styletryon.tryon import PRESETS

DEMO_PERSON = 20_000_010
DEMO_GARMENT = 20_000_008
DEMO_SIZE = (512, 384)
"""The rendered figures of `styletryon demo`, whom no training saw, and the size of their pictures."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: The arguments after the program's name. Default: those of the process.

    Returns:
        The exit status: 0; 2 for input that cannot be used; 130 when stopped with Ctrl-C.
    """
    parser = build_parser()
    arguments = parser.parse_args(argv)
    run: Callable[[argparse.Namespace], None] = arguments.run
    try:
        _use_threads(arguments)
        run(arguments)
        sys.stdout.flush()
    except StyleTryOnError as error:
        if arguments.debug:
            raise
        _complain(f"styletryon {arguments.command}: {' '.join(str(error).split())}")
        return 2
    except BrokenPipeError:
        # The reader (`| head`) has gone; Python would complain once more while it shuts down.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        if arguments.debug:
            raise
        _complain(f"styletryon {arguments.command}: {error}")
        return 2
    except KeyboardInterrupt:
        if arguments.debug:
            raise
        _complain(f"styletryon {arguments.command}: stopped; files that were finished before stand where they belong")
        return 130
    return 0


def build_parser() -> argparse.ArgumentParser:
    """Describe the commands and their options."""
    parser = argparse.ArgumentParser(
        prog="styletryon",
        description="Virtual try-on by style-interpolation optimisation: the person in the other's garment.",
    )
    parser.add_argument("--version", action="version", version=f"styletryon {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_demo(commands)
    _add_try_on(commands)
    _add_generate(commands)
    _add_train(commands)
    _add_evaluate(commands)
    _add_paperdoll(commands)
    _add_info(commands)
    return parser


Commands = Any  # argparse keeps the class of `add_subparsers` to itself


def _command(commands: Commands, name: str, run: Callable[[argparse.Namespace], None], text: str) -> Any:
    parser = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser.set_defaults(run=run)
    return parser


def _use_threads(arguments: argparse.Namespace) -> None:
    """Give torch as many CPU threads as were asked for.

    Threads wait for each other after every operation. Where another program holds one of the cores, a small network is
    many times slower on all cores than on one, so the commands that draw leave half of them alone.
    """
    if not hasattr(arguments, "threads"):
        return
    import torch

    threads = arguments.threads
    if threads is None:
        threads = max(1, torch.get_num_threads() // 2)
    if threads < 1:
        raise RangeError(f"--threads: expected at least 1, got {threads}")
    torch.set_num_threads(threads)


def _add_model_options(parser: Any) -> None:
    parser.add_argument("--threads", type=int, help="CPU threads (default: half of what torch would take)")
    parser.add_argument("--model", default="default", help="name of bundled weights or folder (default: %(default)s)")
    parser.add_argument("--device", help="cpu, cuda, cuda:1, mps (default: cuda where there is one)")


def _add_try_on_options(parser: Any) -> None:
    parser.add_argument(
        "--region",
        default="top",
        type=_region,
        help=f"what changes: {', '.join(REGIONS)}, or label classes such as 'top,legwear' (default: %(default)s)",
    )
    parser.add_argument("--preset", default="balanced", choices=list(PRESETS), help="default: %(default)s")
    parser.add_argument("--seed", default=0, type=int, help="default: %(default)s")
    parser.add_argument("--quiet", action="store_true", help="no progress bar and no summary")
    _add_model_options(parser)


# ----------------------------------------------------------------------------------------------------------------- demo


def _add_demo(commands: Commands) -> None:
    parser = _command(commands, "demo", _demo, "dress a rendered person in a rendered garment; needs no network")
    parser.add_argument("out", type=Path, metavar="OUT", help="folder for tryon.png, figure.png and report.json")
    parser.add_argument("--person-seed", default=DEMO_PERSON, type=int, help="figure to dress (default: %(default)s)")
    parser.add_argument("--garment-seed", default=DEMO_GARMENT, type=int, help="figure to copy (default: %(default)s)")
    _add_try_on_options(parser)


def _demo(arguments: argparse.Namespace) -> None:
    import torch

    from styletryon.data import paperdoll

    figures = [paperdoll.sample_figure(seed) for seed in (arguments.person_seed, arguments.garment_seed)]
    person, garment = (paperdoll.render(figure, DEMO_SIZE) for figure in figures)
    result = styletryon.try_on(
        person.image,
        garment.image,
        region=arguments.region,
        model=arguments.model,
        person_pose=Pose(torch.from_numpy(person.keypoints), DEMO_SIZE),
        garment_pose=Pose(torch.from_numpy(garment.keypoints), DEMO_SIZE),
        preset=arguments.preset,
        seed=arguments.seed,
        device=arguments.device,
        progress=_wants_progress(arguments),
    )
    result.save(arguments.out / "tryon.png")
    save_image(result.figure(), arguments.out / "figure.png")
    _write_json(result.report, arguments.out / "report.json")
    if not arguments.quiet:
        print(_summary(result))
        for name in ("tryon.png", "figure.png", "report.json"):
            print(arguments.out / name)


# --------------------------------------------------------------------------------------------------------------- try-on


def _add_try_on(commands: Commands) -> None:
    parser = _command(commands, "try-on", _try_on, "dress the person of one picture in the garment of another")
    parser.add_argument("person", type=Path, metavar="PERSON", help="picture of the person")
    parser.add_argument("garment", type=Path, metavar="GARMENT", help="picture of someone who wears the garment")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="OUT", help="picture to write")
    parser.add_argument("--figure", type=Path, help="also write person | garment | try-on side by side")
    parser.add_argument("--report", type=Path, help="also write the numbers as JSON")
    parser.add_argument("--person-pose", type=Path, metavar="JSON", help="keypoints of the person; see --pose-help")
    parser.add_argument("--garment-pose", type=Path, metavar="JSON", help="keypoints of the garment's wearer")
    parser.add_argument(
        "--pose-help",
        action=_Explain,
        text="A pose file holds 17 numbers triples [x, y, score] in COCO order, in the picture's pixels, as a JSON "
        "list; or a JSON object that maps the picture's name without ending to such a list.",
        help="say what a pose file holds",
    )
    parser.add_argument("--no-composite", action="store_true", help="keep the whole drawing, changed or not")
    _add_try_on_options(parser)


def _try_on(arguments: argparse.Namespace) -> None:
    result = styletryon.try_on(
        arguments.person,
        arguments.garment,
        region=arguments.region,
        model=arguments.model,
        person_pose=_read_pose(arguments.person_pose, arguments.person, "--person-pose"),
        garment_pose=_read_pose(arguments.garment_pose, arguments.garment, "--garment-pose"),
        preset=arguments.preset,
        seed=arguments.seed,
        device=arguments.device,
        progress=_wants_progress(arguments),
        composite=not arguments.no_composite,
    )
    result.save(arguments.out)
    if arguments.figure is not None:
        save_image(result.figure(), arguments.figure)
    if arguments.report is not None:
        _write_json(result.report, arguments.report)
    if not arguments.quiet:
        print(_summary(result))
        print(arguments.out)


def _read_pose(file: Path | None, picture: Path, option: str) -> Pose | None:
    if file is None:
        return None
    try:
        points = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise PoseError(f"{option}: expected a JSON file of keypoints, got {str(file)!r} ({error})") from error
    if isinstance(points, dict):
        if picture.stem not in points:
            raise PoseError(f"{option}: expected an entry {picture.stem!r} in {str(file)!r}, got none; add it")
        points = points[picture.stem]
    try:
        photo = read_image(picture, name=option)
        return Pose(points, (photo.height, photo.width))
    except (TypeError, ValueError) as error:
        if isinstance(error, StyleTryOnError):
            raise
        raise PoseError(f"{option}: expected 17 triples [x, y, score] in {str(file)!r} ({error})") from error


# ------------------------------------------------------------------------------------------------------------- generate


def _add_generate(commands: Commands) -> None:
    parser = _command(commands, "generate", _generate, "draw people who do not exist")
    parser.add_argument(
        "-o", "--out", type=Path, required=True, metavar="OUT", help="picture (many stand side by side), or a folder"
    )
    parser.add_argument("--seed", default=0, type=int, help="seed of the first (default: %(default)s)")
    parser.add_argument("--count", default=1, type=int, help="how many, with successive seeds (default: %(default)s)")
    parser.add_argument("--truncation", default=0.7, type=float, help="0 mean, 1 all variety (default: %(default)s)")
    _add_model_options(parser)


def _generate(arguments: argparse.Namespace) -> None:
    if arguments.count < 1:
        raise RangeError(f"--count: expected at least 1, got {arguments.count}")
    model = styletryon.load_model(arguments.model, device=arguments.device)
    pictures = []
    for seed in range(arguments.seed, arguments.seed + arguments.count):
        latent = styletryon.generate(seed=seed, model=model, truncation=arguments.truncation)
        picture = to_pil(model.draw(latent).image)
        if arguments.out.suffix:
            pictures.append(picture)
        else:
            path = arguments.out / f"{seed:06d}.png"
            save_image(picture, path)
            print(path)
    if pictures:
        save_image(_side_by_side(pictures), arguments.out)
        print(arguments.out)


def _side_by_side(pictures: Sequence[Any]) -> Any:
    """Lay pictures of one size out in rows of at most eight."""
    from PIL import Image

    width, height = pictures[0].size
    columns = min(len(pictures), 8)
    sheet = Image.new("RGB", (columns * width, -(-len(pictures) // columns) * height), (255, 255, 255))
    for number, picture in enumerate(pictures):
        sheet.paste(picture, (number % columns * width, number // columns * height))
    return sheet


# ---------------------------------------------------------------------------------------------------------------- train


def _add_train(commands: Commands) -> None:
    parser = _command(commands, "train", _train, "train a generator from labelled pictures with keypoints")
    parser.add_argument("data", type=Path, metavar="DATA", help="folder or zip; see docs/training.md")
    parser.add_argument("--out", type=Path, required=True, help="folder for checkpoints, samples and the trained model")
    parser.add_argument("--preset", default="paperdoll", help="name of a training preset (default: %(default)s)")
    parser.add_argument("--resume", action="store_true", help="go on from the newest checkpoint in --out")
    parser.add_argument("--pictures", type=int, help="stretch or shorten the preset to so many pictures seen")
    parser.add_argument("--minutes", type=float, help="stop after so many minutes, with a checkpoint")
    parser.add_argument("--threads", type=int, help="CPU threads (default: half of what torch would take)")
    parser.add_argument("--seed", default=0, type=int, help="default: %(default)s")
    parser.add_argument("--precision", default="auto", choices=["auto", "bf16", "fp32"], help="default: %(default)s")
    parser.add_argument("--device", help="cpu, cuda, cuda:1 (default: cuda where there is one)")
    parser.add_argument("--quiet", action="store_true", help="no progress line")


def _train(arguments: argparse.Namespace) -> None:
    import torch

    from styletryon import training

    config = replace(training.preset(arguments.preset), seed=arguments.seed)
    if arguments.pictures is not None:
        config = config.scaled(arguments.pictures)
    complete = training.train(
        arguments.data,
        arguments.out,
        config=config,
        resume=arguments.resume,
        minutes=arguments.minutes,
        device=arguments.device or ("cuda" if torch.cuda.is_available() else "cpu"),
        precision=arguments.precision,
        progress=not arguments.quiet,
    )
    if complete:
        print(f"complete; the model is in {arguments.out / 'model'}")
    else:
        again = f"styletryon train {arguments.data} --out {arguments.out} --preset {arguments.preset} --resume"
        print(f"stopped with a checkpoint; go on with: {again}")


# ------------------------------------------------------------------------------------------------------------- evaluate


def _add_evaluate(commands: Commands) -> None:
    parser = _command(commands, "evaluate", _evaluate, "measure try-on against rendered truth, baselines and ceilings")
    parser.add_argument("--pairs", default=64, type=int, help="how many pairs (default: %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write everything as JSON")
    parser.add_argument("--data", type=Path, metavar="DATA", help="pairs of photographs from a folder or zip")
    parser.add_argument("--split", default="val", help="split of --data (default: %(default)s)")
    parser.add_argument("--pose-following", action="store_true", help="measure new poses instead of try-on")
    parser.add_argument("--methods", help="names, separated by commas (default: all)")
    parser.add_argument("--estimate-poses", action="store_true", help="estimate the poses rather than know them")
    parser.add_argument("--batch-size", default=16, type=int, help="default: %(default)s")
    _add_try_on_options(parser)


def _evaluate(arguments: argparse.Namespace) -> None:
    from styletryon import metrics

    if not isinstance(arguments.region, str):
        raise ConfigError(f"--region: expected one of {', '.join(REGIONS)}, got a set of classes")
    model = styletryon.load_model(arguments.model, device=arguments.device)
    options: dict[str, Any] = {name: getattr(arguments, name) for name in ("pairs", "seed", "preset", "batch_size")}
    if arguments.methods is not None and not arguments.pose_following:
        options["methods"] = arguments.methods.split(",")
    with _Stages(shown=_wants_progress(arguments)) as stages:
        if arguments.pose_following:
            report = metrics.pose_following(model, progress=stages, **options)
        elif arguments.data is not None:
            report = metrics.evaluate_folder(
                model, arguments.data, region=arguments.region, split=arguments.split, progress=stages, **options
            )
        else:
            estimate = styletryon.estimate_pose if arguments.estimate_poses else None
            report = metrics.evaluate(
                model, region=arguments.region, estimate_pose=estimate, progress=stages, **options
            )
    if arguments.json is not None:
        report.save(arguments.json)
    print(report.table())


class _Stages:
    """A progress bar for work in stages, or none."""

    def __init__(self, *, shown: bool) -> None:
        self.shown = shown
        self._bar: Any = None

    def __enter__(self) -> _Stages:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def __call__(self, stage: str, done: int, total: int) -> None:
        if not self.shown:
            return
        if self._bar is None:
            from tqdm import tqdm

            self._bar = tqdm(leave=False)
        self._bar.set_description(stage, refresh=False)
        self._bar.total = total
        self._bar.update(min(done, total) - self._bar.n)


# ------------------------------------------------------------------------------------------------------------ paperdoll


def _add_paperdoll(commands: Commands) -> None:
    parser = _command(commands, "paperdoll", _paperdoll, "render a data set of figures with exact keypoints and labels")
    parser.add_argument("out", type=Path, metavar="OUT", help="folder to write")
    parser.add_argument("--count", required=True, type=int, help="how many figures")
    parser.add_argument("--size", default="256x192", type=_size, help="HEIGHTxWIDTH in pixels (default: %(default)s)")
    parser.add_argument("--stances", default=2, type=int, help="pictures per person and outfit (default: %(default)s)")
    parser.add_argument("--tryons", default=0, type=int, help="how many in another's clothes to add (default: none)")
    parser.add_argument("--seed", default=0, type=int, help="seed of the first figure (default: %(default)s)")
    parser.add_argument("--workers", default=1, type=int, help="processes (default: %(default)s)")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def _paperdoll(arguments: argparse.Namespace) -> None:
    from styletryon.data import paperdoll

    with _Stages(shown=_wants_progress(arguments)) as stages:
        paperdoll.write_dataset(
            arguments.out,
            arguments.count,
            seed=arguments.seed,
            size=arguments.size,
            stances=arguments.stances,
            tryons=arguments.tryons,
            workers=arguments.workers,
            progress=lambda done, total: stages("figures", done, total),
        )
    print(arguments.out)


# ----------------------------------------------------------------------------------------------------------------- info


def _add_info(commands: Commands) -> None:
    _command(commands, "info", _info, "say what is installed, on what it runs, and why; paste it into a report")


def _info(arguments: argparse.Namespace) -> None:
    import torch

    del arguments
    rows = [
        ("styletryon", f"{__version__} ({Path(styletryon.__file__).parent})"),
        ("python", f"{platform.python_version()} on {platform.platform()}"),
    ]
    rows += [(name, metadata.version(name)) for name in ("torch", "torchvision", "numpy", "pillow", "safetensors")]
    rows.append(("cpu threads", str(torch.get_num_threads())))
    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
        rows.append(("cuda", f"{torch.version.cuda}: {', '.join(names)}"))
    else:
        rows.append(("cuda", f"none (torch was built for {torch.version.cuda or 'the CPU alone'})"))
    rows += _describe_ops()
    for name in sorted(path.parent.name for path in BUNDLED.glob("*/config.json")):
        rows.append((f"weights {name!r}", _describe_weights(name)))
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        print(f"{name:{width}}  {value}")


def _describe_ops() -> list[tuple[str, str]]:
    status = styletryon.ops.backend_status()
    rows = [("ops", f"{status.active or 'none'} (asked for: {status.requested}, by {status.requested_by})")]
    rows.append(("  because", status.reason))
    rows += [("  but", note) for note in status.notes]
    rows.append(("  device", f"{status.device or 'none'}{f', {status.arch}' if status.arch else ''}"))
    rows.append(("  nvrtc", status.nvrtc))
    rows.append(("  cache", f"{status.cache_folder} ({status.cache_files} compiled, {status.cache_bytes} bytes)"))
    rows.append(("  to force", "STYLETRYON_OPS=reference or fused; in Python styletryon.ops.use_backend"))
    return rows


def _describe_weights(name: str) -> str:
    try:
        model = styletryon.load_model(name, device="cpu")
    except StyleTryOnError as error:
        return f"cannot be loaded: {error}"
    height, width = model.image_size
    count = sum(parameter.numel() for parameter in model.parameters())
    return f"{height}x{width}, {count / 1e6:.1f} M parameters, {model.fingerprint}"


# --------------------------------------------------------------------------------------------------------------- shared


class _Explain(argparse.Action):
    def __init__(self, option_strings: Sequence[str], dest: str, text: str, **options: Any) -> None:
        super().__init__(option_strings, dest, nargs=0, default=argparse.SUPPRESS, **options)
        self.text = text

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        print(self.text)
        parser.exit()


def _region(text: str) -> str | frozenset[Label]:
    from styletryon.labels import resolve_region

    if text in REGIONS:
        return text
    try:
        return resolve_region([int(item) if item.isdigit() else item for item in text.split(",")])
    except StyleTryOnError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _size(text: str) -> tuple[int, int]:
    height, _, width = text.partition("x")
    if not (height.isdigit() and width.isdigit()):
        raise argparse.ArgumentTypeError(f"expected HEIGHTxWIDTH such as 512x384, got {text!r}")
    return int(height), int(width)


def _wants_progress(arguments: argparse.Namespace) -> bool:
    return not arguments.quiet and sys.stderr.isatty()


def _summary(result: styletryon.TryOnResult) -> str:
    report = result.report
    shown = {name: report[name] for name in ("seconds", "status", "outside_change") if name in report}
    shown |= {name: value for name, value in report.items() if name.endswith("_psnr")}
    return ", ".join(f"{k} {v if isinstance(v, str) else format(v, '.3g')}" for k, v in shown.items())


def _write_json(data: Mapping[str, Any], path: Path) -> None:
    text = json.dumps(dict(data), indent=2, default=float) + "\n"

    def write(temporary: Path) -> None:
        temporary.write_text(text, encoding="utf-8")

    write_atomically(path, write)


def _complain(text: str) -> None:
    print(text, file=sys.stderr)
