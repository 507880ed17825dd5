"""Reads what is played and learnt from: data sets, tasks, turns, and their tokens."""
