"""Kubernetes operator for OllamaModelSets: one resource in, one OpenAI-compatible endpoint out."""

__version__ = "0.1.0"
