"""OpenAI-compatible front for Ollama.

``openai_*`` modules know the API that clients speak, ``ollama_*`` modules the one that Ollama speaks, and
``upstream`` is the interface between the two. Only ``ollama_client``, ``ollama_fleet`` and ``standalone`` do
network I/O, and only ``app`` knows Ray Serve.
"""
