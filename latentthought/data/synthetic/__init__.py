"""Data made by program: endless, fresh, with splits that cannot share a row."""
