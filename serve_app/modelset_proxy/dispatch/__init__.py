"""How many requests run and where: the queue, the servers and their health, failover. For any engine."""
