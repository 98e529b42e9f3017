"""From a released chart to this one, on a kind cluster of its own."""
