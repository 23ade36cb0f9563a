"""What the results in a folder were made with."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from styletryon._files import write_text
from styletryon.errors import ConfigError


def claim(folder: Path, settings: Mapping[str, Any]) -> None:
    """Make the folder these settings', unless it is another's."""
    path = folder / "settings.json"
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        write_text(path, json.dumps(dict(settings), indent=1) + "\n")
        return
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read {str(path)!r} ({error}); choose another folder", argument="out") from error
    if known != dict(settings):
        raise ConfigError(
            f"expected a folder of results with {dict(settings)}, got {str(folder)!r} with {known}; choose "
            "another folder, or the same settings",
            argument="out",
        )
