"""Training of generators from anybody's photographs, or from rendered people."""

from __future__ import annotations

from styletryon.training.callbacks import TrainingCallback
from styletryon.training.config import PRESETS, Stage, TrainingConfig, preset
from styletryon.training.encoder import EncoderTrainer, EncoderTrainingConfig, train_encoder
from styletryon.training.run import train
from styletryon.training.trainer import Trainer

__all__ = [
    "PRESETS",
    "EncoderTrainer",
    "EncoderTrainingConfig",
    "Stage",
    "Trainer",
    "TrainingCallback",
    "TrainingConfig",
    "preset",
    "train",
    "train_encoder",
]
