"""Changes code in many small ways, each of which some unit test has to notice."""
