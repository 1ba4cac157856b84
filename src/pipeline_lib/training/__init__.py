"""Training of encoders and fusion, and their errors on fixed samples."""

from pipeline_lib.training.encoders import train_encoder
from pipeline_lib.training.evaluation import encoder_evaluation, fusion_evaluation
from pipeline_lib.training.fusions import train_fusion

__all__ = [
    "encoder_evaluation",
    "fusion_evaluation",
    "train_encoder",
    "train_fusion",
]
