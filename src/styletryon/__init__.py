"""Virtual try-on by style-interpolation optimisation: VOGUE / TryOnGAN as a library."""

from __future__ import annotations

from styletryon._version import __version__ as __version__
