"""Training of generators from anybody's photographs, or from rendered people."""

from __future__ import annotations

from styletryon.training.adaptive import AdaptiveAugmentation
from styletryon.training.callbacks import TrainingCallback
from styletryon.training.config import PRESETS, Stage, TrainingConfig, preset
from styletryon.training.curves import CurvesCallback, save_curves
from styletryon.training.encoder import EncoderTrainer, EncoderTrainingConfig, train_encoder
from styletryon.training.perceptual import PerceptualReconstruction
from styletryon.training.run import train
from styletryon.training.tensorboard import TensorBoardCallback
from styletryon.training.trainer import Trainer

__all__ = [
    "PRESETS",
    "AdaptiveAugmentation",
    "CurvesCallback",
    "EncoderTrainer",
    "EncoderTrainingConfig",
    "PerceptualReconstruction",
    "Stage",
    "TensorBoardCallback",
    "Trainer",
    "TrainingCallback",
    "TrainingConfig",
    "preset",
    "save_curves",
    "train",
    "train_encoder",
]
