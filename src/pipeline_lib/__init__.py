"""Dated, context-aware 10 m embeddings of the Earth's surface from several sensors."""

__version__ = "0.1.0"
