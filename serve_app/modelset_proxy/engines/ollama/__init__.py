"""Ollama as an engine: its native API, asked of one server at a time."""
