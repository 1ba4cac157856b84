"""Training of encoders and fusion, and their errors on fixed samples."""

from pipeline_lib.training.encoders import train_encoder
from pipeline_lib.training.evaluation import baseline_metrics, fusion_metrics, sample_metrics
from pipeline_lib.training.fusions import train_fusion

__all__ = [
    "baseline_metrics",
    "fusion_metrics",
    "sample_metrics",
    "train_encoder",
    "train_fusion",
]
