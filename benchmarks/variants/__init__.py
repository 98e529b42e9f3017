"""Variants on a real Ollama: what they take on its disk and in its memory, and whose answers they give."""
