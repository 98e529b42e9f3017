"""What the API server is asked to hold, as plain dictionaries, and how far it does so already."""
