"""What the proxy costs, measured beside other ways to the same Ollama; see README.md here."""
