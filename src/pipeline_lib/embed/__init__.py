"""Dense inference, and the stored embeddings."""

from pipeline_lib.embed.cube import embed_cube
from pipeline_lib.embed.manifest import read_manifest
from pipeline_lib.embed.own import embed_xarray
from pipeline_lib.embed.store import read_embedding, same_model

__all__ = ["embed_cube", "embed_xarray", "read_embedding", "read_manifest", "same_model"]
