"""Sweeps: one recipe over a grid of its keys and over seeds, every point a run of its own, in one table with intervals."""
