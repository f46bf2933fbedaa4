"""Options of commands that ask models and judges: limits of pace, time and money."""

from __future__ import annotations

from typing import Annotated

import typer

RequestsPerMin = Annotated[float | None, typer.Option(help="The most requests a minute to each model.")]
TokensPerMin = Annotated[
    float | None, typer.Option(help="The most tokens a minute of each model, questions and answers together.")
]
MaxConcurrency = Annotated[int, typer.Option(min=1, help="The most requests at once.")]
TimeoutS = Annotated[float, typer.Option(help="Seconds that one attempt may take.")]
MaxRetries = Annotated[
    int, typer.Option(min=0, help="Further attempts after status 429 or 5xx, a time-out or a broken connection.")
]
MaxCostUsd = Annotated[
    float | None,
    typer.Option(
        help="Stop before the call that could exceed this many US dollars, earlier runs included; calls that were "
        "under way when one was killed count at the most that they can cost."
    ),
]
