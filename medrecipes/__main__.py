"""`python -m medrecipes COMMAND`: the command line."""

import sys

from medrecipes.commands import main

if __name__ == "__main__":
    sys.exit(main())
