"""The page docs/paper.md: `python -m recipes.paper.page FOLDER` prints it, from FOLDER/paper.json where that is there.

Without one the page says that the command was not run, and its tables hold what the paper published.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from recipes.benchmark_table import TITLES
from recipes.paper.hub import ARENA, CHECKPOINTS, GOLD, JUDGE, LLAMA_TOKENIZER, Repository
from recipes.paper.published import SOURCE, TABLES, Published
from recipes.paper.vectors import BENCHMARKS_COST

METRICS: Final = ("apgr_paper", "cpt50", "cpt80", "apgr_routellm")
_COLUMNS: Final = (
    "router",
    "learned from",
    "embedder",
    "APGR",
    "in the paper",
    "CPT(50 %)",
    "in the paper",
    "CPT(80 %)",
    "in the paper",
    "APGR by RouteLLM's code",
)
_NONE: Final = "–"  # noqa: RUF001 - a dash, as in any table
_SOURCES: Final = (ARENA, JUDGE, GOLD)
_REPOSITORIES: Final = (
    *(repository for source in _SOURCES for repository in source),
    *(repository for checkpoints in CHECKPOINTS.values() for repository in checkpoints.values()),
    LLAMA_TOKENIZER,
)

_NOT_RUN: Final = """\
**This command was not run.** Where this project is built, neither the Hugging Face hub nor OpenAI can be reached. Its
readers and steps are tested on small made-up files of the same layout, with a folder in place of the hub and a local
server in place of OpenAI's. So no number on this page is ours: the tables hold what the paper published, and the
command fills in the rest."""
_STEPS: Final = """\
```
export OPENAI_API_KEY=…
make paper
```

`make paper` fetches a checkout of RouteLLM, whose `routellm/evals` holds the benchmarks, and gives this command:

```
python -m recipes.paper --data build/hub --benchmarks build/RouteLLM --out benchmarks/results --page docs/paper.md
```

`make paper PAPER='--embedder static'` needs no key and costs nothing; `PAPER_DATA` names another folder than
`build/hub`. Each step keeps what it made, and what is there is not made again: after an error or ^C give the same
command again, and delete a folder to have its part made anew.

1. **Read the benchmarks**: MMLU, GSM8K and MT-Bench, with the answers of both models that RouteLLM recorded.
2. **Download** what the data folder lacks from the hub, each repository to `OWNER/NAME` in it. Where this machine
   cannot reach the hub, put copies there: a folder of that name is taken as it is. The error that names a missing
   repository also names the command that downloads it elsewhere.
3. **Keep the published vectors**: RouteLLM published the vectors of its prompts by text-embedding-3-small. They go
   into a cache in `build/paper/vectors`, so that nobody pays for them again.
4. **Say the cost, then buy the rest**: how many texts would be sent, to which server, about how many tokens these
   are, and what they cost at most, if every byte were a token. Where that is above `--max-cost-usd`, one dollar unless
   told otherwise, nothing is sent and the command ends. With 0 it says the cost and ends.
5. **Train** mf and sw_ranking by RouteLLM's recipes on three sets of battles, each with the static embedder that
   ships and with text-embedding-3-small: twelve routers. The sets are those of the paper: *arena*, votes of Chatbot
   Arena's users; *arena + judge*, with GPT-4's judgements on Nectar's prompts; *arena + gold*, with golden labels of
   MMLU's validation questions. Battles on prompts of fewer than 16 characters are left out, as RouteLLM does, and
   those on prompts of the benchmarks. mf drops ties and keeps the epoch with the lowest held-out loss.
6. **Read RouteLLM's own routers**, which its authors trained on the same three sets: mf, unless text-embedding-3-small
   is left out; bert and causal_llm where they are asked for, as by `make paper PAPER='--checkpoints bert'`.
7. **Evaluate** all of them, the routers that ship, prompt length, random routing and the oracle on the benchmarks.
8. **Write** `benchmarks/results/paper.json` and this page."""
_COST: Final = """\
* **Money**: only vectors by text-embedding-3-small are paid for, at OpenAI's list price of $0.02 a million tokens.
  The prompts of the benchmarks, {texts:,} texts of {megabytes:.1f} MB, have no published vectors: about
  ${about_usd:.2f}, ${at_most_usd:.2f} at most. The prompts that routers learn from have published ones.
* **Space**: {download_gigabytes:.1f} GB of downloads, most of it vectors; about as much again for what is made of
  them; 8 GB of memory. bert adds {bert_gigabytes:.1f} GB of downloads, causal_llm {causal_gigabytes:.0f} GB.
* **Time**: nothing was timed. By the sizes: some 60 requests for vectors; minutes for each mf router; and for
  sw_ranking with text-embedding-3-small, {texts:,} prompts each held against up to 166,000 vectors, a gigabyte. That
  makes one to three hours on two cores, and minutes with the static embedder alone. bert reads each prompt by a
  transformer of 278 million weights: about an hour a router on two cores. causal_llm needs a GPU of 24 GB."""
_READING: Final = """\
* **APGR** is the share of the quality gap between the two models that routing recovers, averaged over all shares of
  calls to the strong one: 0.5 is random. **CPT(50 %)** is the share of calls to the strong model at which half of the
  gap is recovered; less is better. [quality.md](quality.md) defines them. The column APGR has the paper's definition,
  to be held against the column beside it; RouteLLM's code takes another average, in the last column.
* In brackets are 95 % intervals, bootstrapped over prompts, for random routing over its runs. The paper gives none for
  routers, but its numbers are as uncertain. MT-Bench has 72 questions: small differences say nothing there.
* **First look at RouteLLM's own mf**, `routellm/mf` and its two sisters. They are the routers of the paper on the
  paper's benchmarks: the paper's numbers should lie within their intervals. Where they do not, the vectors, the
  benchmarks or the checkpoints are not those of the paper, and no other row can be held against it either.
* **Then at mf and sw_ranking with text-embedding-3-small**, trained here. The public arena data are 57,477 battles;
  the paper had 65,000 out of 80,000, which were never all published. A row below the paper's may be due to that.
* **Then at the same with the static embedder**: the difference is what a service's vectors are worth beside
  microseconds on a CPU.
* **arena + gold** learns from MMLU's own validation questions: what is gained on MMLU there is what labels of one's
  own traffic give.
* **Prompt length** costs nothing and has learned nothing: a router that does not beat it is not worth its data. The
  routers as shipped were made of other data."""


def markdown(found: Mapping[str, Any] | None) -> str:
    """Return the page.

    Args:
        found: What paper.json holds; None where the command was not run.
    """
    status = (
        _NOT_RUN
        if found is None
        else f"Made on {found['created']} by the command below, which bought the vectors of "
        f"{found['bought']['texts']:,} texts for ${found['bought']['at_most_usd']:.2f} at most."
    )
    bert, causal = (
        sum(repository.megabytes for repository in CHECKPOINTS[kind].values()) for kind in ("bert", "causal_llm")
    )
    downloads = sum(repository.megabytes for repository in _REPOSITORIES) - bert - causal
    cost = _COST.format(
        texts=BENCHMARKS_COST.texts,
        megabytes=BENCHMARKS_COST.text_bytes / 1e6,
        about_usd=BENCHMARKS_COST.about_usd,
        at_most_usd=BENCHMARKS_COST.at_most_usd,
        download_gigabytes=downloads / 1e3,
        bert_gigabytes=bert / 1e3,
        causal_gigabytes=causal / 1e3,
    )
    return f"""# The paper's routers, from the paper's public data

{status}

RouteLLM's authors published the battles that their routers learned from, their vectors and the routers themselves. One
command trains the routers again with this package, reads the published ones, and holds both against the tables of the
paper.

## What it does

{_STEPS}

| repository of the hub | holds | MB, about | licence on its page |
|---|---|---|---|
{chr(10).join(map(_listed, _REPOSITORIES))}

Sizes and licences are from descriptions elsewhere, as the hub cannot be reached where this page was written: what the
repositories' own pages say decides. Read them before you use what you train.

## What it costs

{cost}

## How to read the tables

{_READING}

## Results

{tables(found)}

"In the paper": {SOURCE}.
"""


def tables(found: Mapping[str, Any] | None) -> str:
    """Return a table for each benchmark; see markdown for the argument."""
    return "\n\n".join(_table(benchmark, found) for benchmark in TABLES)


def _table(benchmark: str, found: Mapping[str, Any] | None) -> str:
    lines = [f"### {TITLES[benchmark]}", ""]
    if found is not None:
        of = found["benchmarks"][benchmark]
        alone = f"the strong model alone has {of['strong_quality']:.3f}, the weak one {of['weak_quality']:.3f}"
        lines += [f"{of['prompts']:,} prompts; {alone}.", ""]
    lines += [f"| {' | '.join(_COLUMNS)} |", f"|{'---|' * len(_COLUMNS)}"]
    return "\n".join([*lines, *(f"| {' | '.join(cells)} |" for cells in _rows(benchmark, found))])


def _rows(benchmark: str, found: Mapping[str, Any] | None) -> Iterator[list[str]]:
    """Yield the cells of what was evaluated, in its order, and then of what only the paper has."""
    left = dict(TABLES[benchmark])
    for name, numbers in (found["benchmarks"][benchmark]["results"] if found else {}).items():
        router = found["routers"].get(name, {}) if found else {}
        key = (router.get("kind", name), router.get("stage", ""))
        left.pop(key, None)
        shown = (
            [router["checkpoint"] or router["kind"], key[1], router["embedder"] or _NONE] if router else [name, "", ""]
        )
        yield [*shown, *_numbers(numbers, TABLES[benchmark].get(key))]
    for (kind, stage), published in left.items():
        yield [kind, stage, "", *_numbers(None, published)]


def _numbers(own: Mapping[str, Sequence[float]] | None, published: Published | None) -> list[str]:
    def measured(metric: str, form: str) -> str:
        if own is None:
            return _NONE
        value, low, high = (format(number, form) for number in own[metric])
        return f"{value} ({low} to {high})"

    paper = [_NONE] * 3
    if published is not None:
        paper = [f"{published.apgr:.3f}", f"{published.cpt50:.2f}%", f"{published.cpt80:.2f}%"]
    return [
        measured("apgr_paper", ".3f"),
        paper[0],
        measured("cpt50", ".1%"),
        paper[1],
        measured("cpt80", ".1%"),
        paper[2],
        measured("apgr_routellm", ".3f"),
    ]


def _listed(repository: Repository) -> str:
    return f"| `{repository.name}` | {repository.holds} | {repository.megabytes:,} | {repository.license} |"


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the page."""
    parser = argparse.ArgumentParser(prog="python -m recipes.paper.page", description=__doc__)
    parser.add_argument("folder", type=Path, help="folder of paper.json, benchmarks/results")
    place = parser.parse_args(arguments).folder / "paper.json"
    sys.stdout.write(markdown(json.loads(place.read_text(encoding="utf-8")) if place.is_file() else None))
    return 0


if __name__ == "__main__":
    sys.exit(main())
