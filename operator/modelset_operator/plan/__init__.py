"""From what is observed to what is to be done, as pure functions: no I/O, no clock, no memory."""
