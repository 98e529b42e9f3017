"""Tests of the repository as a whole, and end to end."""
