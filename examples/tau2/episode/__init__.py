"""Plays and scores one task; needs no AReaL."""
