"""What clients ask of the sets: each set's proxy tells."""
