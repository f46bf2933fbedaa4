"""`routellm-fast train`."""

from __future__ import annotations

import typer

from routellm_fast.cli._train_bert import bert
from routellm_fast.cli._train_causal_llm import causal_llm
from routellm_fast.cli._train_mf import mf
from routellm_fast.cli._train_sw_ranking import sw_ranking

app = typer.Typer(help="Train a router on preference data.", no_args_is_help=True)
app.command("bert")(bert)
app.command("causal_llm")(causal_llm)
app.command("mf")(mf)
app.command("sw_ranking")(sw_ranking)
