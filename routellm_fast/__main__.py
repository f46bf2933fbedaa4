"""`python -m routellm_fast`: the command line."""

from __future__ import annotations

import sys

from routellm_fast.cli import main

if __name__ == "__main__":
    sys.exit(main())
