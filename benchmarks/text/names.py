"""What the contenders from text to decision are called, in measurements as in reports."""

from __future__ import annotations

from typing import Final

ROUTE: Final = "routellm_fast.route"
WIN_RATE: Final = "routellm_fast.win_rate"
MODEL2VEC: Final = "model2vec + numpy"
TOKENIZERS: Final = "tokenizers alone"
TEXT_CONTENDERS: Final = (ROUTE, WIN_RATE, MODEL2VEC, TOKENIZERS)
