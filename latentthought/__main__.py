"""`python -m latentthought` is the `latentthought` command."""

from latentthought.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
