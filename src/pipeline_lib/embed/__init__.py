"""Dense inference, and the stored embeddings. Names are loaded when they are first used."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline_lib.embed.cube import embed_cube
    from pipeline_lib.embed.manifest import read_manifest
    from pipeline_lib.embed.own import embed_xarray
    from pipeline_lib.embed.store import read_embedding, same_model

__all__ = ["embed_cube", "embed_xarray", "read_embedding", "read_manifest", "same_model"]

_MODULES = {"embed_cube": "cube", "embed_xarray": "own", "read_manifest": "manifest"}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES.get(name, 'store')}"), name)
