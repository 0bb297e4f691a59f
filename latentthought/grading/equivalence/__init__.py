"""Whether two answers are the same: the cheap ways first, then their trees side by side."""
