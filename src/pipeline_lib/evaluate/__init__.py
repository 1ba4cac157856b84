"""Reconstruction metrics, probes of embeddings, and maps in numbers."""
