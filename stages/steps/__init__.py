"""In which order the commands need one another."""
