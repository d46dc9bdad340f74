"""What everything shares: the layout of stems, the error for bad input, devices, memory, precision."""
