"""Figures and tables of runs: what a reader looks at, made from the files that runs leave."""
