"""Every speed or memory claim of this project, side by side with what one would use instead: `python -m benchmarks`.

Each benchmark states its floor in operations and bytes, first checks that its sides compute the same thing (and stops when
they do not), then runs them in turn in one process. Nothing here is imported by the package.
"""

from latentthought.cli.noise import quiet_libraries

# before anything loads the libraries that announce themselves
quiet_libraries()
