"""AReaL, as this project runs it."""
