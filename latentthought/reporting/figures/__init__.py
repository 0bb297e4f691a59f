"""The figures of `latentthought plot`: a module for each kind, one table of them all (`catalog`), one way to draw (`canvas`)."""
