"""paperdoll: drawn people of whom everything is known.

Every figure is a value made of independent factors, each drawn from its own random stream. :func:`render` draws it with
exact labels and keypoints, and :func:`dress` puts one person into another's clothes, which is ground truth for try-on.
"""

from styletryon.data.paperdoll.dataset import write_dataset
from styletryon.data.paperdoll.factors import Figure, Light, Look, Outfit, Stance
from styletryon.data.paperdoll.flat import Lie, lay_flat, sample_lie
from styletryon.data.paperdoll.render import Rendering, dress, render, restyle, wears
from styletryon.data.paperdoll.sampling import sample_figure, sample_light, sample_look, sample_outfit, sample_stance

__all__ = [
    "Figure",
    "Lie",
    "Light",
    "Look",
    "Outfit",
    "Rendering",
    "Stance",
    "dress",
    "lay_flat",
    "render",
    "restyle",
    "sample_figure",
    "sample_lie",
    "sample_light",
    "sample_look",
    "sample_outfit",
    "sample_stance",
    "wears",
    "write_dataset",
]
