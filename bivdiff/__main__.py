"""Entry point: `python -m bivdiff`, see cli."""

import sys

from bivdiff.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
