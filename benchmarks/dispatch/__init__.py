"""Where requests go, in a simulator: the proxy's own code beside other ways, and the best possible."""
