"""Every exception that styletryon raises on purpose.

.. code-block:: text

    StyleTryOnError
     ├── ImageError (ValueError)                 an image cannot be read or used
     │    └── ImageNotFoundError (FileNotFoundError)
     ├── ShapeError (ValueError)                 a tensor or array has the wrong shape or dtype
     ├── RangeError (ValueError)                 a number lies outside its range, or is not finite
     ├── RegionError (ValueError)                an unknown region or label class
     ├── PoseError (ValueError)                  a pose cannot be used
     │    └── PersonNotFoundError                no person was found in an image
     ├── ConfigError (ValueError)                a setting is unknown or has no meaning
     ├── LossError (ValueError)                  a loss breaks the contract of a TryOnLoss
     ├── CheckpointError (ValueError)            a saved model or training state cannot be loaded
     │    └── CheckpointNotFoundError (FileNotFoundError)
     ├── DataError (ValueError)                  a data set is incomplete or inconsistent
     ├── SaveError (OSError)                     a file cannot be written; what stood there before still stands
     ├── WeightsUnavailableError (RuntimeError)  pretrained weights cannot be had
     ├── DependencyError (ImportError)           an optional package is not installed
     ├── BackendUnavailableError (RuntimeError)  a forced backend of the ops cannot run
     ├── ProcessGroupError (RuntimeError)        processes that work together lost each other
     └── TrainingDivergedError (RuntimeError)    training met a loss that is not finite, or no longer learns

Each leaf is also the builtin exception that one would catch without knowing this module. Every message names the
argument, what was expected, what came instead, and the likely mend.
"""

from __future__ import annotations


class StyleTryOnError(Exception):
    """The root of every exception that styletryon raises on purpose.

    Args:
        problem: What was expected, what came instead, and the likely mend.
        argument: The name of the argument that is meant, as its caller knows it; None where no argument is to blame.

    Attributes:
        problem: As given.
        argument: As given. `str(error)` begins with it.
    """

    def __init__(self, problem: str = "", *, argument: str | None = None) -> None:
        super().__init__(problem)
        self.problem = problem
        self.argument = argument

    def __str__(self) -> str:
        return self.problem if self.argument is None else f"{self.argument}: {self.problem}"


class TryOnWarning(UserWarning):
    """A try-on came out, but not as one would wish: nothing to be seen has changed, say."""


class ImageError(StyleTryOnError, ValueError):
    """An image cannot be read, or its size, layout or values cannot be used."""


class ImageNotFoundError(ImageError, FileNotFoundError):
    """The path of an image leads to no file."""


class ShapeError(StyleTryOnError, ValueError):
    """A tensor or array has the wrong shape or dtype."""


class RangeError(StyleTryOnError, ValueError):
    """A number lies outside its range, or is not finite."""


class RegionError(StyleTryOnError, ValueError):
    """A region or label class is unknown, or the picture does not show it."""


class PoseError(StyleTryOnError, ValueError):
    """A pose cannot be used."""


class PersonNotFoundError(PoseError):
    """No person was found in an image."""


class ConfigError(StyleTryOnError, ValueError):
    """A setting is unknown or has no meaning."""


class LossError(StyleTryOnError, ValueError):
    """A loss breaks the contract of a `TryOnLoss`: wrong shape, not finite, or no gradient."""


class CheckpointError(StyleTryOnError, ValueError):
    """A saved model or training state cannot be loaded."""


class CheckpointNotFoundError(CheckpointError, FileNotFoundError):
    """The path or name of a saved model leads to nothing."""


class DataError(StyleTryOnError, ValueError):
    """A data set is incomplete or inconsistent."""


class SaveError(StyleTryOnError, OSError):
    """A file cannot be written. What stood there before still stands."""


class WeightsUnavailableError(StyleTryOnError, RuntimeError):
    """Pretrained weights cannot be had."""


class DependencyError(StyleTryOnError, ImportError):
    """An optional package that this needs is not installed."""


class BackendUnavailableError(StyleTryOnError, RuntimeError):
    """A forced backend of the ops cannot run here."""


class ProcessGroupError(StyleTryOnError, RuntimeError):
    """Of several processes that work together one has died, fallen silent, or has other settings than the rest."""


class TrainingDivergedError(StyleTryOnError, RuntimeError):
    """Training stopped because a loss is not finite, or because the discriminator no longer teaches anything."""
