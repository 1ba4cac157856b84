"""Embeddings judged by how well GPP measured at flux towers follows from them."""

from pipeline_lib.gpp.evaluation import evaluate_gpp
from pipeline_lib.gpp.figures import plot_gpp
from pipeline_lib.gpp.fluxnet import write_targets
from pipeline_lib.gpp.series import write_series

__all__ = ["evaluate_gpp", "plot_gpp", "write_series", "write_targets"]
