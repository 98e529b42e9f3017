"""What runs models on a pod: fetching them, telling what is there, letting go. Ollama today."""
