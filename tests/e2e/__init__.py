"""End to end, on kind."""
