"""Reconstruction metrics, maps of principal components, figures, and the report of a run."""
