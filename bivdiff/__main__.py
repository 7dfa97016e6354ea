"""Entry point: `python -m bivdiff`, see cli."""

import sys

if __name__ == "__main__":
    try:
        from bivdiff.cli.main import main

        status = main()
    except KeyboardInterrupt:  # before the command has begun
        status = 130
    sys.exit(status)
