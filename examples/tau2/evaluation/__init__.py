"""Plays tasks several times, stores the episodes, and measures pass^k; needs no AReaL."""
