"""Quick tests of what belongs to neither package."""
