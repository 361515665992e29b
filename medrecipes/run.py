"""`python -m medrecipes.run RECIPE`: train, evaluate and report a recipe."""

import sys

from medrecipes.commands import main

if __name__ == "__main__":
    sys.exit(main(["run", *sys.argv[1:]]))
