"""The page of the fitting room. Needs Gradio."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

import gradio as gr
from PIL import Image

from styletryon._files import write_atomically
from styletryon.app import wardrobe
from styletryon.app.figures import bars, legend, show_labels
from styletryon.app.room import Fitting, FittingRoom
from styletryon.app.visits import Visits
from styletryon.app.wardrobe import Choice
from styletryon.errors import StyleTryOnError
from styletryon.tryon import PRESETS

Function = TypeVar("Function", bound=Callable[..., Any])

SESSION_SECONDS = 3600
"""How long choices are kept, and files that Gradio made."""

PERSON, GARMENT = 0, 1
"""Who of the wardrobe is chosen until a visitor chooses."""

MAX_SHOWN = 768
"""Pixels of the longest side as shown; downloads have them all."""

GONE = "There is no try-on to work on any more. Press “Try on” first."

REGION_NAMES = {"top": "Top", "outerwear": "Jacket", "bottom": "Bottom", "dress": "Dress", "full": "Everything"}
PRESET_NAMES = {"fast": "Fast", "balanced": "Balanced", "quality": "Best"}

# Fonts of the visitor's own machine: none is fetched.
THEME = gr.themes.Default(
    primary_hue="indigo",
    neutral_hue="slate",
    font=["system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif"],
    font_mono=["ui-monospace", "Menlo", "Consolas", "monospace"],
)

CSS = """
.gradio-container {max-width: 1360px !important; margin: 0 auto !important; min-width: 0 !important;}
footer {display: none !important;}
#title h1 {margin-bottom: 0.1em;}
#person-wardrobe .grid-container, #garment-wardrobe .grid-container {
  grid-template-columns: repeat(6, minmax(0, 1fr)) !important; grid-template-rows: auto !important;
  grid-auto-rows: auto !important; height: auto !important; padding: 0 !important;}
#poses .grid-container {
  grid-template-columns: repeat(3, minmax(0, 1fr)) !important; grid-template-rows: auto !important;
  grid-auto-rows: auto !important; height: auto !important; padding: 0 !important;}
#person-wardrobe button.thumbnail-item, #garment-wardrobe button.thumbnail-item, #poses button.thumbnail-item {
  aspect-ratio: 3 / 4; min-width: 0; height: auto;}
#person-wardrobe :is(.grid-wrap, .gallery-container), #garment-wardrobe :is(.grid-wrap, .gallery-container),
#poses :is(.grid-wrap, .gallery-container) {min-height: 0 !important; height: auto !important;}
#legend:not(:has(.entry)) {display: none;}
#more {margin-top: 1.2em;}
#bars .prose {display: grid; grid-template-columns: max-content 1fr max-content; gap: 0.35em 0.8em; align-items: center;
  font-variant-numeric: tabular-nums;}
#bars .name {text-align: right;}
#bars .bar {height: 0.85em; border-radius: 4px; background: var(--border-color-primary);}
#bars .bar span {display: block; height: 100%; border-radius: 4px; background: var(--color-accent);}
#legend span.entry {white-space: nowrap; display: inline-block; margin-right: 0.9em;}
#legend span.swatch {display: inline-block; width: 0.9em; height: 0.9em; border-radius: 3px;
  margin-right: 0.35em; vertical-align: -0.08em; border: 1px solid rgba(0, 0, 0, 0.2);}
@media (max-width: 640px) {#person-picture, #garment-picture {height: 260px !important;}}
"""

_log = logging.getLogger(__name__)


def told(function: Function) -> Function:
    """Show what goes wrong in a handler as a sentence; the server goes on."""

    @functools.wraps(function)
    def handler(*arguments: Any, **options: Any) -> Any:
        try:
            return function(*arguments, **options)
        except gr.Error:
            raise
        except StyleTryOnError as error:
            raise _sentence(" ".join(str(error).split())) from error
        except Exception as error:
            _log.exception("the fitting room: %s failed", function.__name__)
            raise _sentence("Something went wrong here; the server's log says what. Please try again.") from error

    return cast(Function, handler)


def _sentence(text: str) -> Exception:
    return cast(Exception, gr.Error(text, title="That did not work", duration=15, print_exception=False))


@dataclass(frozen=True)
class Handlers:
    """What the controls of the page call.

    A choice travels as the place in the wardrobe, or as the key of what was uploaded, which `visits` remembers.

    Attributes:
        room: What dresses people.
        visits: What remembers them.
        cache: The folder that Gradio serves pictures from, and clears.
    """

    room: FittingRoom
    visits: Visits
    cache: Path

    def upload(self, request: gr.Request, content: bytes | None, role: str) -> tuple[str, Image.Image]:
        """Read an uploaded picture; return the choice and what to show."""
        if not content:
            raise _sentence("The uploaded file is empty; choose a picture.")
        choice = wardrobe.uploaded(content, role)
        self.visits.upload(_session(request), role, choice)
        return choice.key, shown(choice.picture)

    def dress(
        self,
        request: gr.Request,
        person: int | str,
        garment: int | str,
        region: str,
        preset: str,
        keep: bool,
        labels: bool,
        progress: Callable[..., Any],
    ) -> tuple[Any, ...]:
        """Try on, beside what is worn already or by itself; return everything to show, and scales of 1."""
        fitting = self.room.dress(
            self._choice(request, "person", person),
            self._choice(request, "garment", garment),
            region=region,
            preset=preset,
            worn=self.visits.find(_session(request)) if keep else None,
            tell=lambda share, text: progress(share, desc=text),
        )
        self.visits.keep(_session(request), fitting)
        return *self.show(fitting, labels), *fitting.scales.values()

    def redraw(self, request: gr.Request, labels: bool, *scales: float) -> tuple[Any, ...]:
        """Scale the coefficients; return everything to show."""
        fitting = self.room.redraw(self.find(request), scales)
        self.visits.keep(_session(request), fitting)
        return self.show(fitting, labels)

    def relabel(self, request: gr.Request, labels: bool) -> tuple[Any, ...]:
        """Switch the segmentation on or off."""
        return self.show(self.find(request), labels)

    def poses(self, request: gr.Request) -> list[Image.Image]:
        """The outfit in other poses."""
        return self.room.in_poses(self.find(request))

    def files(self, request: gr.Request) -> tuple[Any, Any]:
        """The files to download."""
        picture, report = self.visits.write(_session(request), self.find(request))
        return (
            gr.DownloadButton(value=str(picture), interactive=True),
            gr.DownloadButton(value=str(report), interactive=True),
        )

    def leave(self, request: gr.Request) -> None:
        """The page was closed."""
        self.visits.leave(_session(request))

    def find(self, request: gr.Request) -> Fitting:
        """The visitor's try-on."""
        fitting = self.visits.find(_session(request))
        if fitting is None:
            raise _sentence(GONE)
        return fitting

    def _choice(self, request: gr.Request, role: str, choice: int | str) -> Choice:
        if isinstance(choice, int):
            return wardrobe.rendered(choice)
        found = self.visits.uploaded(_session(request), role)
        if found is None or found.key != choice:
            raise _sentence(f"The uploaded {role} is not kept any more; upload the picture again.")
        return found

    def show(self, fitting: Fitting, labels: bool) -> tuple[Any, ...]:
        """Before and after, the legend, a line about it, and the bars."""
        after = show_labels(fitting) if labels else fitting.result.image
        return (
            (self.store(fitting.result.person_image), self.store(after)),
            legend(fitting) if labels else "",
            status(fitting),
            bars(fitting.layer_means),
        )

    def store(self, picture: Image.Image) -> str:
        """Write a picture to where it is served from, without loss and sooner than Gradio would; return its path."""
        small = shown(picture).convert("RGB")
        path = self.cache / wardrobe.key_of(small) / "picture.webp"
        if path.exists():
            path.touch()  # so that it is not cleared away while it is shown
        else:
            write_atomically(path, lambda file: small.save(file, "webp", lossless=True, quality=0, method=0))
        return str(path)


def _session(request: gr.Request) -> str:
    """What the server calls a visitor: a text that the browser drew at random when it opened the page."""
    if not request.session_hash:
        raise _sentence("This needs a session; open the page in a browser, or use Gradio's client.")
    return str(request.session_hash)


def shown(picture: Image.Image) -> Image.Image:
    """A picture of at most `MAX_SHOWN` pixels a side."""
    if max(picture.size) <= MAX_SHOWN:
        return picture
    small = picture.copy()
    small.thumbnail((MAX_SHOWN, MAX_SHOWN), Image.Resampling.LANCZOS)
    return small


def status(fitting: Fitting) -> str:
    """One line about a try-on."""
    report = fitting.report
    share = sum(fitting.layer_means.values()) / len(fitting.layer_means)
    line = f"{share:.0%} of the style comes from the garment's picture."
    if len(fitting.garments) > 1:
        names = [REGION_NAMES.get(name, name).lower() for name in fitting.garments]
        line = f"Worn: {', '.join(names)}. Of the {names[-1]}, {line}"
    if report["changed_by_hand"]:
        return f"{line} Changed by hand, and shown as drawn."
    return f"{line} Found in {float(report['seconds']):.1f} s."


def build(room: FittingRoom, visits: Visits) -> Any:
    """Lay the page out.

    Args:
        room: What dresses people.
        visits: What remembers them.

    Returns:
        The `gradio.Blocks`, not yet served.
    """
    people = wardrobe.thumbnails()
    with gr.Blocks(
        title="styletryon fitting room", analytics_enabled=False, delete_cache=(600, SESSION_SECONDS)
    ) as blocks:
        handlers = Handlers(room, visits, Path(blocks.GRADIO_CACHE))
        gr.Markdown(
            "# Fitting room\nChoose a person, choose somebody whose clothes you like, and press **Try on**. "
            "Pictures stay on this machine.",
            elem_id="title",
        )
        with gr.Row():
            person = _picker("person", "Person", people, PERSON, handlers)
            garment = _picker("garment", "Garment", people, GARMENT, handlers)
            with gr.Column(min_width=300):
                settings, button, view, labels, downloads = _try_on_column()
        with gr.Row(elem_id="more"):
            with gr.Column(min_width=300):
                sliders, reset = _hand_column(room.groups)
            with gr.Column(min_width=300):
                shares = _bar_column()
            with gr.Column(min_width=300):
                gallery, again = _pose_column()
        views = [*view, shares]

        dressed = button.click(
            _with_progress(handlers),
            [person, garment, *settings, labels],
            [*views, *sliders],
            concurrency_limit=1,
            concurrency_id="dress",
            api_name="try_on",
            show_progress_on=view[0],
        )
        dressed.success(told(handlers.files), None, downloads, api_name="files", show_progress="hidden")
        dressed.success(told(handlers.poses), None, gallery, api_name=False, show_progress="hidden")
        again.click(told(handlers.poses), None, gallery, api_name="poses", concurrency_id="hand", concurrency_limit=1)
        labels.input(
            told(handlers.relabel), labels, views, api_name=False, show_progress="hidden",
            concurrency_id="hand",
        )  # fmt: skip
        redrawn = gr.on(
            [slider.input for slider in sliders],
            told(handlers.redraw),
            [labels, *sliders],
            views,
            api_name="redraw",
            trigger_mode="always_last",
            show_progress="hidden",
            concurrency_id="hand",
        )
        cleared = reset.click(lambda: [1.0] * len(sliders), None, sliders, api_name=False, show_progress="hidden")
        restored = cleared.success(
            told(handlers.redraw), [labels, *sliders], views, api_name=False, show_progress="hidden",
            concurrency_id="hand",
        )  # fmt: skip
        for event in (redrawn, restored):
            event.success(
                told(handlers.files), None, downloads, api_name=False, show_progress="hidden",
                trigger_mode="always_last",
            )  # fmt: skip
        blocks.unload(handlers.leave)
    return blocks


def _with_progress(handlers: Handlers) -> Callable[..., Any]:
    def dress(
        request: gr.Request,
        person: int | str,
        garment: int | str,
        region: str,
        preset: str,
        keep: bool,
        labels: bool,
        progress: Any = gr.Progress(),  # noqa: B008  # Gradio finds it by its default.
    ) -> tuple[Any, ...]:
        return handlers.dress(request, person, garment, region, preset, keep, labels, progress)

    return told(dress)


def _picker(name: str, title: str, people: Sequence[Image.Image], first: int, handlers: Handlers) -> Any:
    """A column to choose a picture in; returns the state that holds the choice."""
    with gr.Column(min_width=300):
        picture = gr.Image(
            wardrobe.rendered(first).picture, label=title, type="pil", interactive=False, height=420,
            buttons=["fullscreen"], elem_id=f"{name}-picture",
        )  # fmt: skip
        upload = gr.UploadButton(
            "Upload a photograph", file_types=["image"], type="binary", size="sm", elem_id=f"{name}-upload"
        )
        _keep_local(upload)
        gallery = gr.Gallery(
            list(people), label=f"Or choose: {title.lower()}", show_label=False, columns=6, height="auto",
            allow_preview=False, object_fit="contain", buttons=[], elem_id=f"{name}-wardrobe", interactive=False,
        )  # fmt: skip
        choice = gr.State(first, time_to_live=SESSION_SECONDS)

        def choose(event: gr.SelectData) -> tuple[int, Image.Image]:
            return int(event.index), wardrobe.rendered(int(event.index)).picture

        def receive(request: gr.Request, content: bytes | None) -> tuple[str, Image.Image]:
            return handlers.upload(request, content, name)

        gallery.select(told(choose), None, [choice, picture], api_name=False, show_progress="hidden")
        upload.upload(told(receive), upload, [choice, picture], api_name=f"upload_{name}", show_progress="hidden")
    return choice


def _keep_local(component: Any) -> None:
    """Let a component take uploaded files alone: left to itself, Gradio fetches an address that a client names."""

    def guarded(take: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def move(path: Any) -> Any:
            if "://" in str(path):
                raise _sentence("Only files can be uploaded, no addresses; download the picture first.")
            return take(path)

        return move

    for name in ("move_resource_to_block_cache", "async_move_resource_to_block_cache"):
        setattr(component, name, guarded(getattr(component, name)))


def _try_on_column() -> tuple[list[Any], Any, list[Any], Any, list[Any]]:
    slider = gr.ImageSlider(
        label="Before and after: drag the line", type="pil", interactive=False, height=420, max_height=420,
        buttons=["fullscreen"], elem_id="result", slider_position=50,
    )  # fmt: skip
    line = gr.Markdown("", elem_id="status")
    region = gr.Radio(
        [(text, name) for name, text in REGION_NAMES.items()], value="top", label="What to try on", elem_id="region"
    )
    preset = gr.Radio(
        [(PRESET_NAMES.get(name, name), name) for name in PRESETS], value="balanced", label="How carefully",
        elem_id="preset",
    )  # fmt: skip
    keep = gr.Checkbox(False, label="Keep what is worn, as far as it goes with this", elem_id="keep")
    button = gr.Button("Try on", variant="primary", elem_id="try-on")
    labels = gr.Checkbox(False, label="Show what is drawn where", elem_id="labels")
    legend_box = gr.HTML("", elem_id="legend")
    with gr.Row():
        downloads = [
            gr.DownloadButton(text, interactive=False, size="sm", min_width=120, elem_id=f"download-{kind}")
            for text, kind in (("Download picture", "picture"), ("Download report", "report"))
        ]
    return [region, preset, keep], button, [slider, legend_box, line], labels, downloads


def _hand_column(groups: Sequence[str]) -> tuple[list[Any], Any]:
    gr.Markdown(
        "### Adjust by hand\nHow much of the garment's style each resolution takes, times what was found: "
        "0 keeps the person's own, 1 is as found."
    )
    sliders = [
        gr.Slider(0, 2, 1, step=0.05, label=_group_title(index, groups), elem_id=f"scale-{group}", buttons=[])
        for index, group in enumerate(groups)
    ]
    reset = gr.Button("Back to what was found", size="sm", elem_id="reset")
    return sliders, reset


def _bar_column() -> Any:
    gr.Markdown(
        "### What comes from the garment\nThe mean share of each layer's style that is the garment's, from the "
        "coarsest layer to the finest."
    )
    return gr.HTML("", elem_id="bars")


def _group_title(index: int, groups: Sequence[str]) -> str:
    note = {0: " (coarsest)", len(groups) - 1: " (finest)"}.get(index, "")
    return f"{groups[index]} pixels{note}"


def _pose_column() -> tuple[Any, Any]:
    gr.Markdown("### In other poses\nThe same outfit, drawn anew in usual poses.")
    gallery = gr.Gallery(
        label="Other poses", show_label=False, columns=3, height="auto", object_fit="contain", buttons=[],
        interactive=False, elem_id="poses",
    )  # fmt: skip
    again = gr.Button("Draw the poses again", size="sm", elem_id="poses-again")
    return gallery, again
