"""Virtual try-on by style-interpolation optimisation: VOGUE / TryOnGAN as a library."""

from __future__ import annotations

__version__ = "0.1.0"
