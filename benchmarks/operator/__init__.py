"""The operator, against a real API server: how fast sets become Ready, and what it costs when they are."""
