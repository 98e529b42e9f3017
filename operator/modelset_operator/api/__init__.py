"""The resource as Python values: names, references, labels and the spec. No input or output happens here."""
