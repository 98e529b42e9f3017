"""Puts the parts together and hosts them: settings, Ray Serve, and life without Kubernetes."""
