"""Cloud masks: CloudSEN12's network, Sen2Cor's scene classification, Landsat's quality band."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline_lib.cubes import CLEAR, CLOUD_SHADOW, NO_DATA, THICK_CLOUD, THIN_CLOUD
from pipeline_lib.errors import UserError

CLOUD_BANDS = (
    *("B01", "B02", "B03", "B04", "B05", "B06"),
    *("B07", "B08", "B8A", "B09", "B11", "B12"),
)
"""Input of the network, in its order."""

MODEL_FILE = Path("data") / "cloudmodel.pt"
MODEL_DIGEST = "3bd7e691020d6231309bc17665fedfebffcf08cb1fb4906c3ac905f080be2aee"
"""SHA-256 of the model in sentle 2026.10.2: loading TorchScript executes what is in it."""

MULTIPLE = 32
"""The network halves its input five times; at odd multiples of 16 it fails."""

BATCH_PX = 2**19
"""Pixels per step; bounds the memory of the network, changes no result."""

SCENE_CLASSES = {
    0: NO_DATA,  # no data
    1: NO_DATA,  # saturated or defective
    3: CLOUD_SHADOW,
    8: THICK_CLOUD,  # medium probability
    9: THICK_CLOUD,  # high probability
    10: THIN_CLOUD,  # cirrus
}
"""Classes of Sen2Cor that are not clear land, water or snow."""


def mask_of_scene_classes(classes: NDArray[np.integer[Any]]) -> NDArray[np.uint8]:
    """Mask classes of Sen2Cor's scene classification (SCL), any shape."""
    table = np.full(256, CLEAR, dtype=np.uint8)
    for theirs, ours in SCENE_CLASSES.items():
        table[theirs] = ours
    return table[classes]


QUALITY_BITS = (
    (4, CLOUD_SHADOW),
    (1, THIN_CLOUD),  # dilated cloud: the rim, thin or none
    (2, THIN_CLOUD),  # cirrus
    (3, THICK_CLOUD),
    (0, NO_DATA),  # fill
)
"""Bits of QA_PIXEL that are not clear land, water or snow; the later ones prevail.

USGS, Landsat 8-9 Collection 2 level 2 science product guide (LSDS-1619), pixel quality.
"""


def mask_of_quality(bits: NDArray[np.uint16]) -> NDArray[np.uint8]:
    """Mask classes of Landsat's pixel quality band (QA_PIXEL), any shape.

    No pixel that was seen is 0: it is what is read where the file's tag says no data.
    """
    classes = np.where(bits == 0, NO_DATA, CLEAR).astype(np.uint8)
    for bit, kind in QUALITY_BITS:
        classes[(bits >> bit & 1).astype(bool)] = kind
    return classes


def verified_model() -> bytes:
    """The network's file in the installed package ``sentle``, which is not imported.

    Its bytes are read once, so that those that are loaded are those that were verified. Raises
    UserError if it is absent, or another file.
    """
    spec = find_spec("sentle")
    if spec is None or spec.origin is None:
        raise UserError(
            "the cloud model comes with the package sentle, which is not installed; install it "
            "or set the sensor's clouds to scl"
        )
    path = Path(spec.origin).parent / MODEL_FILE
    content = path.read_bytes() if path.exists() else b""
    if hashlib.sha256(content).hexdigest() != MODEL_DIGEST:
        raise UserError(
            f"{path}: not the cloud model that this version was made for; install the version of "
            "sentle named in pyproject.toml"
        )
    return content


class CloudModel:
    """CloudSEN12's U-Net. On the GPU where there is one."""

    def __init__(self) -> None:
        import torch

        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        load: Callable[..., Any] = torch.jit.load
        self.network = load(io.BytesIO(verified_model()), map_location=self.device).eval()

    def classify(self, reflectance: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Mask classes, ``(date, y, x)``, of reflectance ``(date, band, y, x)``.

        The bands are :data:`CLOUD_BANDS`, not corrected to nadir. NaN counts as 0, which is what
        the network was shown beyond the edge of scenes.
        """
        import torch

        classes = np.full((len(reflectance), *reflectance.shape[2:]), CLEAR, dtype=np.uint8)
        window = data_window(np.asarray(np.isfinite(reflectance).any(axis=(0, 1))))
        if window is None:
            return classes
        height, width = classes[(0, *window)].shape
        step = max(1, BATCH_PX // (height * width))
        for start in range(0, len(reflectance), step):
            part = (slice(start, start + step), slice(None), *window)
            # Dark pixels below 0 after the offset are as unknown to the network as no data.
            shown = np.nan_to_num(np.maximum(reflectance[part], 0), nan=0.0)
            tensor = torch.from_numpy(pad_to_multiple(shown, MULTIPLE)).to(self.device)
            with torch.inference_mode():
                best = self.network(tensor).argmax(dim=1).to(torch.uint8).cpu().numpy()
            classes[(part[0], *window)] = without_rim(best)[:, :height, :width]
        return classes


def without_rim(classes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Classes ``(date, y, x)`` whose outermost pixels are replaced by their inner neighbours.

    The network calls them clear under the thickest cloud.
    """
    return np.pad(classes[:, 1:-1, 1:-1], ((0, 0), (1, 1), (1, 1)), mode="edge")


def data_window(present: NDArray[np.bool_]) -> tuple[slice, slice] | None:
    """Rows and columns that hold any data, or None.

    Context beyond the edge of the scene is left out instead of being shown as zeros.
    """
    rows, columns = np.flatnonzero(present.any(axis=1)), np.flatnonzero(present.any(axis=0))
    if len(rows) == 0:
        return None
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


def pad_to_multiple(array: NDArray[np.float32], multiple: int) -> NDArray[np.float32]:
    """An array ``(..., y, x)`` whose last row and column repeat until both sides are multiples."""
    widths = [(0, 0)] * (array.ndim - 2) + [(0, -side % multiple) for side in array.shape[-2:]]
    return np.ascontiguousarray(np.pad(array, widths, mode="edge"), dtype=np.float32)
