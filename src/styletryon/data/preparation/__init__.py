"""From one's own photographs to a data set that training reads."""

from __future__ import annotations

from styletryon.data.preparation.one import Outcome
from styletryon.data.preparation.run import Preparation, prepare

__all__ = ["Outcome", "Preparation", "prepare"]
