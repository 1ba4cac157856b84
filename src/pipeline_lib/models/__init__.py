"""Networks, losses and the saved artefact."""

from pipeline_lib.models.artefact import (
    TrainedEncoder,
    TrainedFusion,
    load_encoder,
    load_fusion,
    load_models,
    save_encoder,
    save_fusion,
)
from pipeline_lib.models.autoencoder import Autoencoder
from pipeline_lib.models.decoder import Decoder
from pipeline_lib.models.encoder import SensorEncoder
from pipeline_lib.models.fusion import Fusion
