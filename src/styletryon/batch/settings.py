"""What the results in a folder were made with."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from styletryon._files import write_text
from styletryon.batch.storage import Folder
from styletryon.errors import ConfigError

_NAME = "settings.json"


def claim(folder: Folder, settings: Mapping[str, Any]) -> None:
    """Make the folder these settings', unless it is another's."""
    try:
        known = json.loads(folder.read(_NAME))
    except FileNotFoundError:
        folder.write(_NAME, lambda path: write_text(path, json.dumps(dict(settings), indent=1) + "\n"))
        return
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"cannot read {_NAME!r} of {str(folder.place)!r} ({error}); choose another folder", argument="out"
        ) from error
    if known != dict(settings):
        raise ConfigError(
            f"expected a folder of results with {dict(settings)}, got {str(folder.place)!r} with {known}; choose "
            "another folder, or the same settings",
            argument="out",
        )
