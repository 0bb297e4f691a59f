"""Rows: where they come from, and how they become token ids, layouts and batches."""
