"""A registry that all Ollama pods of a set pull through: one download from outside, for all of them.

It stands where HTTP_PROXY points, so that models keep the names of the registries that they come from. It
shares no code with the operator; the two come in one image.
"""
