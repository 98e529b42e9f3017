"""The documents' commands, run as they are written, on an empty kind cluster of three nodes."""
