"""Training of encoders and fusion."""

from pipeline_lib.training.encoders import train_encoder
from pipeline_lib.training.fusions import train_fusion
