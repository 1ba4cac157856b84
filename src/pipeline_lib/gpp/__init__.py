"""Embeddings judged by how well GPP measured at flux towers follows from them."""
