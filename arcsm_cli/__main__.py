"""Runs the program as ``python -m arcsm_cli``."""

import sys

from arcsm_cli.app import main

if __name__ == "__main__":
    sys.exit(main())
