"""`python -m recipes.paper`."""

from __future__ import annotations

import sys

from recipes.paper.command import main

sys.exit(main())
