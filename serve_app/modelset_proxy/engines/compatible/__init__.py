"""Any server that speaks OpenAI's API as an engine: vLLM, llama.cpp's, Ollama's own ``/v1``."""
