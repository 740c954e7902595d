#!/usr/bin/env python3
"""Simulate LOFAR measurement sets; `simulate.py --help` lists the options."""

import sys

from ddfpipe.simulate.command import main

if __name__ == "__main__":
    sys.exit(main())
