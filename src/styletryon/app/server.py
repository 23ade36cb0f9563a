"""Starting and stopping the fitting room's server. Needs Gradio."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path
from typing import final

from styletryon.app.address import check_can_serve
from styletryon.app.guard import MAX_UPLOAD, Guard
from styletryon.app.page import CSS, THEME, build
from styletryon.app.room import FittingRoom
from styletryon.app.visits import Visits
from styletryon.errors import SaveError

MAX_WAITING = 64
"""How many requests may wait for their turn; more are told to come back."""

MAX_SESSIONS = 64
"""Of how many browser tabs Gradio keeps the state."""


SWEEP_SECONDS = 10.0
"""How often visits are looked through for those whose time is over."""


@final
class Server:
    """A running fitting room. See `styletryon.app.serve`."""

    def __init__(self, room: FittingRoom, *, host: str, port: int, folder: Path) -> None:
        # First of all, because the folder of a server that runs at this port must not be cleared.
        check_can_serve(host, port)
        _clear(folder)
        self.folder = folder
        self.visits = Visits(folder / "visits")
        self.blocks = build(room, self.visits)
        self.blocks.queue(max_size=MAX_WAITING, default_concurrency_limit=1)
        from starlette.middleware import Middleware

        self.blocks.launch(
            server_name=host,
            server_port=port,
            share=False,
            inbrowser=False,
            prevent_thread_lock=True,
            quiet=True,
            show_error=False,
            theme=THEME,
            css=CSS,
            footer_links=[],
            run_history=False,
            enable_monitoring=False,
            ssr_mode=False,
            pwa=False,
            mcp_server=False,
            max_threads=8,
            max_file_size=MAX_UPLOAD,
            state_session_capacity=MAX_SESSIONS,
            allowed_paths=[str(folder / "visits")],
            app_kwargs={"middleware": [Middleware(Guard)], "docs_url": None, "redoc_url": None, "openapi_url": None},
        )
        shown = "127.0.0.1" if host == "0.0.0.0" else host
        self._closed = threading.Event()
        threading.Thread(target=self._sweep, name="styletryon-visits", daemon=True).start()
        self.url = f"http://{f'[{shown}]' if ':' in shown else shown}:{port}/"

    def _sweep(self) -> None:
        """Let go of what visitors have left behind."""
        while not self._closed.wait(SWEEP_SECONDS):
            self.visits.forget()

    def close(self) -> None:
        """End the server and remove its files."""
        self._closed.set()
        self.blocks.close(verbose=False)
        shutil.rmtree(self.folder, ignore_errors=True)


def _clear(folder: Path) -> None:
    """Make the folder, empty and for this user alone."""
    try:
        if folder.exists():
            shutil.rmtree(folder)
        folder.mkdir(parents=True, mode=0o700)
    except OSError as error:
        raise SaveError(
            f"cannot clear {str(folder)!r} ({error}); remove it or choose another port", argument="folder"
        ) from error
