"""A whole fleet on the kind cluster: pods by demand, a fixed number of them, and a Deployment a model."""
