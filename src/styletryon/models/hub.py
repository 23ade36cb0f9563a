"""Generators of the Hugging Face hub: fetching one, and publishing one with a model card."""

from __future__ import annotations

import importlib
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from styletryon._files import write_text
from styletryon.errors import CheckpointNotFoundError, DependencyError, SaveError, WeightsUnavailableError

if TYPE_CHECKING:

    from styletryon.models.generator import PoseStyleGAN2

FILES = ("config.json", "model.safetensors")
"""All that is ever fetched: numbers and tensors, no pickles and no code."""

SCHEME = "hf://"
"""What a name of the hub begins with wherever folders are named too."""

_CARD = "README.md"
_NAME = re.compile(r"(?P<repository>[\w-][\w.-]*/[\w-][\w.-]*)(@(?P<revision>[\w.-][\w./-]*))?")


def is_hub_name(source: object) -> bool:
    """Tell whether a text begins with "hf://"."""
    return isinstance(source, str) and source.startswith(SCHEME)


def could_be_hub_name(source: object) -> bool:
    """Tell whether a text reads like "user/name" or "user/name@revision", and is no path to anything here."""
    return isinstance(source, str) and _NAME.fullmatch(source) is not None and not Path(source).exists()


def fetch_model(
    name: str, *, token: str | bool | None = None, endpoint: str | None = None, local_files_only: bool = False
) -> Path:
    """Fetch a saved generator from the Hugging Face hub into its cache.

    Args:
        name: "user/name" for its newest state, or "user/name@revision" for a branch, a tag or, so that it can never
            change, a commit; with or without "hf://" before it.
        token: An access token, or False for none. None for the one that `hf auth login` stored.
        endpoint: Address of the hub. None for `HF_ENDPOINT`, or the public one.
        local_files_only: Whether only what was fetched before is looked at.

    Returns:
        The folder, which holds `config.json` and `model.safetensors` and nothing else of the repository.

    Raises:
        DependencyError: If `huggingface_hub` is not installed.
        WeightsUnavailableError: If the files cannot be had, or that is no name.
    """
    match = _NAME.fullmatch(name.removeprefix(SCHEME))
    if match is None:
        raise WeightsUnavailableError(f"expected 'user/name' or 'user/name@revision', got {name!r}", argument="name")
    hub = _package(f"{name!r} is no folder here and no bundled name; to fetch it from the Hugging Face hub")
    try:
        folder = hub.snapshot_download(
            match["repository"],
            revision=match["revision"],
            allow_patterns=list(FILES),
            repo_type="model",
            token=token,
            endpoint=endpoint,
            local_files_only=local_files_only,
        )
    except Exception as error:  # The hub's own, those of its transport, and OSError have no root in common.
        raise WeightsUnavailableError(
            f"{name!r} cannot be had from the Hugging Face hub ({_said(error)}); check the name, the revision and the "
            "network",
            argument="model",
        ) from error
    missing = [file for file in FILES if not (Path(folder) / file).is_file()]
    if missing:
        raise CheckpointNotFoundError(
            f"expected a repository with {' and '.join(FILES)}, got {name!r} without {' and '.join(missing)}; is it a "
            "model of styletryon?",
            argument="model",
        )
    return Path(folder)


def publish(
    save: Callable[[Path], object],
    card: str | Callable[[str], str],
    repository: str,
    *,
    private: bool | None,
    revision: str | None,
    message: str,
    token: str | bool | None,
    endpoint: str | None,
) -> str:
    """Upload a saved network as one commit; see `PoseStyleGAN2.push_to_hub`.

    Args:
        save: Writes the network into a folder.
        card: The model card, or what writes one of the repository's full name where it has none.
        repository: "user/name", or "name" for the caller's own.
        private: Whether a new repository is private. None for what the account has chosen.
        revision: A branch that exists. None for the main one.
        message: Of the commit.
        token: As for `fetch_model`.
        endpoint: As for `fetch_model`.

    Returns:
        The address of the commit.

    Raises:
        DependencyError: If `huggingface_hub` is not installed.
        SaveError: If it cannot be uploaded.
    """
    hub = _package("to publish on the Hugging Face hub")
    try:
        api = hub.HfApi(token=token, endpoint=endpoint)
        name = str(api.create_repo(repository, private=private, exist_ok=True).repo_id)
        with tempfile.TemporaryDirectory() as folder:
            save(Path(folder))
            if isinstance(card, str):
                write_text(Path(folder) / _CARD, card)
            elif not api.file_exists(name, _CARD, revision=revision):  # what somebody wrote there stays
                write_text(Path(folder) / _CARD, card(name))
            commit = api.upload_folder(
                repo_id=name,
                folder_path=folder,
                commit_message=message,
                revision=revision,
                allow_patterns=[*FILES, _CARD],
            )
    except SaveError:
        raise
    except Exception as error:  # as in `fetch_model`
        raise SaveError(
            f"cannot write {repository!r} on the Hugging Face hub ({_said(error)}); log in with `hf auth login`, and "
            "check the name and the network",
            argument="repository",
        ) from error
    return str(getattr(commit, "commit_url", commit))


def describe(model: PoseStyleGAN2, repository: str, *, licence: str | None = None, text: str = "") -> str:
    """Write a model card, which says of a generator what its numbers say.

    Args:
        model: The generator.
        repository: Its full name on the hub.
        licence: The hub's name of a licence, such as "apache-2.0". None leaves it open.
        text: Markdown of the author's own: what it was trained on, how good it is, what it must not be used for.
    """
    config, height, width = model.config, *model.image_size
    size = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    rows = {
        "Picture": f"{height}x{width} pixels (height x width), with a segmentation of {config.num_labels} classes",
        "Network": f"{type(model).__name__}, {size:.1f} million parameters",
        "Pose": f"17 COCO keypoints{', with body coordinates' if config.body_maps else ''}",
        "Encoder": "none: projections start at the mean" if model.encoder is None else "yes: projections start there",
        "Learnt garment shares": "yes" if config.garment_shares else "no",
        "Fingerprint": f"`{model.fingerprint}`",
    }
    header = ["library_name: styletryon", "pipeline_tag: image-to-image", "tags:"]
    header += [f"- {tag}" for tag in ("virtual-try-on", "stylegan2", "pose-conditioned", "arxiv:2101.02285")]
    header += [] if licence is None else [f"license: {licence}"]
    about = text.strip() or "Its author has not said what it was trained on, nor how good it is."
    lines = [
        "---", *header, "---", "", f"# {repository}", "",
        "A generator of [styletryon](https://github.com/styletryon/styletryon): it draws a person of a given style in "
        "a given pose, and dresses people in photographs by VOGUE / TryOnGAN (arXiv 2101.02285).", "",
        about, "", "| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows.items()), "",
        "## Use", "", "```bash", "pip install 'styletryon[hub]'",
        f"styletryon try-on person.jpg garment.jpg -o tryon.png --model {SCHEME}{repository}", "```", "",
        "```python", "import styletryon", "", f'model = styletryon.PoseStyleGAN2.from_pretrained("{repository}")',
        'styletryon.try_on("person.jpg", "garment.jpg", model=model).save("tryon.png")', "```", "",
        f"Files: `{FILES[0]}` and `{FILES[1]}`; no pickle, and no code.",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def _package(what: str) -> Any:
    try:
        return importlib.import_module("huggingface_hub")
    except ImportError as error:
        raise DependencyError(
            f"{what} install huggingface_hub: pip install 'styletryon[hub]'", argument="model"
        ) from error


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
