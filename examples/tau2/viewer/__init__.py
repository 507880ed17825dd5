"""Shows a run in a browser; needs no AReaL."""
