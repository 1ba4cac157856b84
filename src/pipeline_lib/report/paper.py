"""What the paper reports, to be printed beside a run's own results.

The paper states its errors on values normalised to 0..1; the bounds of that scale are not in
its text. Its errors at the centre are therefore set beside ours in scaled units. Its context error
is weighted towards the centre and scaled; ours is neither, so that another weighting of the
loss leaves it comparable between runs.
"""

from __future__ import annotations

from dataclasses import dataclass

METRICS = {
    "centre_mae": ("centre MAE", "unit of the sensor"),
    "centre_mae_scaled": ("centre MAE", "scaled 0..1"),
    "context_mae": ("context MAE", "unit of the sensor"),
    "sam": ("spectral angle of the centre", "rad"),
    "ssim_loss": ("SSIM loss", "1"),
    "nrmse": ("NRMSE of daily GPP", "1"),
    "rmse": ("RMSE of daily GPP", "g C m⁻² d⁻¹"),
}
"""Metric -> its name in a table, and its unit."""


@dataclass(frozen=True)
class Published:
    """One result of the paper; ``None`` where the paper gives no number."""

    stage: str
    sensor: str | None
    metric: str
    training: float | None = None
    validation: float | None = None
    test: float | None = None
    same_unit: bool = True
    """Whether a run states this metric in the paper's unit."""


PAPER = (
    Published("encoder", "sentinel-1", "centre_mae_scaled", 0.0009, 0.0006),
    Published("encoder", "sentinel-1", "context_mae", 0.0324, 0.0319, same_unit=False),
    Published("encoder", "sentinel-2", "centre_mae_scaled", 0.0037, 0.0037),
    Published("encoder", "sentinel-2", "context_mae", 0.0142, 0.0141, same_unit=False),
    Published("encoder", "sentinel-2", "sam", 0.0259, 0.0278),
    Published("encoder", "sentinel-2", "ssim_loss", 0.1476, 0.1431),
    Published("fusion", "sentinel-1", "centre_mae_scaled", None, 0.0004, 0.0004),
    Published("fusion", "sentinel-2", "centre_mae_scaled", None, 0.0039, 0.0040),
    Published("gpp", None, "nrmse", 0.0917, 0.0958),
    Published("gpp", None, "rmse", 3.09, 4.40),
)


def published(stage: str, sensor: str | None, metric: str) -> Published | None:
    """The paper's result of a stage, sensor and metric, or none."""
    for result in PAPER:
        if (result.stage, result.sensor, result.metric) == (stage, sensor, metric):
            return result
    return None
