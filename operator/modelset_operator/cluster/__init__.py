"""The API server: what is there, kept by watches, and what is asked of it."""
