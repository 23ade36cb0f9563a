"""Importing the package does no work, seen from fresh interpreters."""

from __future__ import annotations

import json
import sys
import textwrap
from pathlib import Path

import pytest

from tests._support.process import run_python

PROBE = textwrap.dedent(
    """
    import json, logging, os, pathlib, random, sys, threading, warnings
    import numpy, torch, PIL.Image

    opened, started = [], []

    def watch(event, arguments):
        if event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+"):
            opened.append(str(arguments[0]))
        elif event == "open" and arguments[1] is None and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            opened.append(str(arguments[0]))
        elif event in ("os.mkdir", "os.rename", "os.remove"):
            opened.append(str(arguments[0]))
        elif event in ("subprocess.Popen", "os.system", "os.posix_spawn", "socket.connect", "socket.getaddrinfo"):
            started.append(event)

    variables, handlers = dict(os.environ), [list(logging.getLogger(name).handlers) for name in ("", "torch")]
    filters, hooks = list(warnings.filters), (sys.excepthook, sys.displayhook)
    torch_state, python_state, numpy_state = torch.random.get_rng_state(), random.getstate(), numpy.random.get_state()
    settings = (torch.get_num_threads(), torch.get_default_dtype(), torch.is_grad_enabled(),
                torch.backends.cudnn.benchmark, torch.get_float32_matmul_precision(), PIL.Image.MAX_IMAGE_PIXELS)
    before, threads = set(sys.modules), threading.active_count()
    sys.addaudithook(watch)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        import styletryon
        alone = {name.split(".")[0] for name in set(sys.modules) - before}
        for name in styletryon.__all__:  # with all that its names bring
            getattr(styletryon, name)
    opened_now, started_now = list(opened), list(started)
    loaded = {name.split(".")[0] for name in set(sys.modules) - before}
    print(json.dumps({
        "alone": sorted(alone),
        "warnings": [str(warning.message) for warning in caught],
        "opened": [path for path in opened_now if "__pycache__" not in path],
        "started": started_now,
        "environment": dict(os.environ) == variables,
        "handlers": [list(logging.getLogger(name).handlers) for name in ("", "torch")] == handlers
                    and not any(logger.handlers for name, logger in logging.root.manager.loggerDict.items()
                                if name.startswith("styletryon") and isinstance(logger, logging.Logger)),
        "filters": list(warnings.filters) == filters,
        "hooks": (sys.excepthook, sys.displayhook) == hooks,
        "randomness": bool(torch.equal(torch_state, torch.random.get_rng_state()))
                      and python_state == random.getstate()
                      and bool((numpy_state[1] == numpy.random.get_state()[1]).all()),
        "settings": settings == (torch.get_num_threads(), torch.get_default_dtype(), torch.is_grad_enabled(),
                                 torch.backends.cudnn.benchmark, torch.get_float32_matmul_precision(),
                                 PIL.Image.MAX_IMAGE_PIXELS),
        "cuda": torch.cuda.is_initialized(),
        "threads": threading.active_count() == threads,
        "loaded": sorted(loaded),
    }))
    """
)

HEAVY = {"torchvision", "scipy", "triton", "cuda", "tqdm", "matplotlib", "skimage", "cv2", "argparse", "setuptools"}
"""What only some calls need is imported by those calls."""


@pytest.fixture(scope="module")
def probe(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    folder = tmp_path_factory.mktemp("purity")
    result = run_python("-c", PROBE, folder=folder)
    assert result.returncode == 0, result.stderr
    assert list(folder.iterdir()) == []
    return json.loads(result.stdout)


@pytest.mark.parametrize("what", ["environment", "handlers", "hooks", "randomness", "settings", "filters", "threads"])
def test_import_leaves_the_process_as_it_was(probe: dict[str, object], what: str) -> None:
    assert probe[what] is True


@pytest.mark.parametrize("what", ["warnings", "opened", "started"])
def test_import_does_nothing(probe: dict[str, object], what: str) -> None:
    assert probe[what] == []


def test_import_starts_no_cuda(probe: dict[str, object]) -> None:
    assert probe["cuda"] is False


def test_import_loads_nothing_heavy(probe: dict[str, object]) -> None:
    assert HEAVY.isdisjoint(probe["loaded"])


def test_import_loads_the_standard_library_and_nothing_else(probe: dict[str, object]) -> None:
    # What makes it quick, for seconds say more of the machine: torch alone takes thirty times as long.
    assert set(probe["alone"]) <= sys.stdlib_module_names | {"styletryon"}


@pytest.mark.parametrize("arguments", ["'--help'", "'--version'", "'try-on', '--help'", "'train'", "'fly'"])
def test_the_command_line_speaks_before_anything_is_loaded(arguments: str) -> None:
    script = (
        "import sys\nfrom styletryon import cli\n"
        f"try: cli.main([{arguments}])\n"
        "except SystemExit: pass\n"
        "print(sorted({'torch', 'torchvision', 'numpy', 'scipy', 'PIL', 'fastapi'} & set(sys.modules)))"
    )
    result = run_python("-c", script)
    assert result.stdout.splitlines()[-1] == "[]", result.stderr


def test_import_makes_no_folder_in_the_home(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    variables = {"HOME": str(home), "XDG_CACHE_HOME": str(home / "cache"), "STYLETRYON_CACHE": str(home / "ours")}
    result = run_python("-W", "error::UserWarning", "-c", "import styletryon", folder=tmp_path, environment=variables)
    assert result.returncode == 0, result.stderr
    assert result.stdout == ""
    assert result.stderr == ""
    assert [path for path in home.rglob("*") if "styletryon" in path.name] == []
    assert not (home / "ours").exists()


def test_import_survives_stripped_docstrings_and_asserts() -> None:
    result = run_python("-OO", "-c", "import styletryon, styletryon.cli")
    assert result.returncode == 0, result.stderr
