"""What is counted and logged, as interfaces; nothing of the proxy is below it."""
