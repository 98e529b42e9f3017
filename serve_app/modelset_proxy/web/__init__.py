"""HTTP in and out over ASGI: routes, exchanges, keys and CORS."""
