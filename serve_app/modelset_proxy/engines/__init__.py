"""What runs models: the port that all engines have, and one package an engine."""
