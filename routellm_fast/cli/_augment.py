"""`routellm-fast augment`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from routellm_fast.cli import _asking_options as asking
from routellm_fast.cli._left_out import Strict, left_out_of, say_left_out
from routellm_fast.cli._outputs import Force, check_vacant_outputs
from routellm_fast.cli._printing import say
from routellm_fast.cli._progress import busy
from routellm_fast.errors import InvalidArgumentError

# The packages behind these commands import an event loop, which takes tens of milliseconds. Each command imports what
# it needs, so that the other commands start faster.

app = typer.Typer(
    help="Make more battles from golden labels, or by a language model that judges responses.", no_args_is_help=True
)

_Model = Annotated[
    list[str] | None,
    typer.Option(
        "--models",
        "--model",
        help="Make battles between these models only; give it twice or more. Not given: all models.",
    ),
]
_PromptFiles = Annotated[
    list[Path] | None, typer.Option("--prompts", help="File in which the prompt_id of a row is looked up.")
]
_NotIn = Annotated[
    list[Path] | None,
    typer.Option("--not-in", help="Leave out prompts that are in this file or folder, such as an evaluation set."),
]
_Ties = Annotated[str, typer.Option(help="What to do with ties: `keep` or `drop`.")]
_Margin = Annotated[float, typer.Option(help="Scores that differ by less are a tie.")]
_Weights = Annotated[
    str,
    typer.Option(
        help="`equal`: every battle counts alike. `difference`: a battle counts more the further its scores are apart."
    ),
]
_CapPerPrompt = Annotated[int | None, typer.Option(min=1, help="The most battles of each prompt; not given: all.")]
_Seed = Annotated[int, typer.Option(help="Draws which battles --cap-per-prompt keeps.")]


@app.command("golden")
def golden(
    labels: Annotated[
        list[Path], typer.Argument(help="Files of golden labels: a prompt and one score column for each model.")
    ],
    out: Annotated[Path, typer.Option(help="File of battles to write: .csv or .jsonl, plain or .gz.")],
    models: _Model = None,
    prompts: _PromptFiles = None,
    not_in: _NotIn = None,
    licenses: Annotated[
        list[str] | None, typer.Option("--license", help="Use only rows of this license; not given: all rows.")
    ] = None,
    ties: _Ties = "keep",
    margin: _Margin = 0.0,
    weights: _Weights = "equal",
    cap_per_prompt: _CapPerPrompt = None,
    seed: _Seed = 0,
    strict: Strict = False,
    force: Force = False,
) -> None:
    """Make battles from golden labels: of two models, the one with the higher score wins."""
    from routellm_fast.augmentation import ScoreRules, forbidden_groups, golden_battles, write_battles
    from routellm_fast.augmentation.battle_rows import check_battles_path
    from routellm_fast.cli import _judging
    from routellm_fast.data import read_golden_files

    check_battles_path(out)
    _judging.check_places({"the battles": out}, [*labels, *(prompts or []), *(not_in or [])])
    check_vacant_outputs(out, force=force)
    if twice := next((file for index, file in enumerate(labels) if file in labels[:index]), None):
        raise InvalidArgumentError(f"{twice} is given twice")
    rules = ScoreRules(margin=margin, ties=ties, weights=weights, cap_per_prompt=cap_per_prompt, seed=seed)
    names = _judging.model_names(models)
    left_out = left_out_of(strict=strict)
    with busy("making battles"):
        forbidden = forbidden_groups(not_in or [], left_out=left_out)
        labelled = read_golden_files(
            labels,
            prompts=_judging.read_all_prompts(prompts, left_out),
            licenses=licenses or None,
            models=names,
            left_out=left_out,
        )
        made = golden_battles(labelled, models=names, rules=rules, forbidden=forbidden)
        write_battles(out, made.rows)
    _judging.show_battles(out, made.counts)
    say(f"  prompts left out as forbidden: {made.forbidden_prompts:,}")
    say(f"  prompts with fewer than two scores: {made.unpaired_prompts:,}")
    say_left_out(left_out)


@app.command("judge")
def judge(
    contests: Annotated[
        Path | None,
        typer.Argument(
            help="File of responses: columns prompt, model_a, model_b, response_a and response_b, or response:MODEL "
            "for each model. With two --generate, prompts alone.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="File of battles to write: .csv or .jsonl, plain or .gz.")] = None,
    judge_model: Annotated[str | None, typer.Option(help="Name of the judge's model at its server.")] = None,
    base_url: Annotated[
        str | None, typer.Option(help="Address of the judge's server; not given: OPENAI_BASE_URL, else OpenAI's.")
    ] = None,
    api_key_env: Annotated[
        str | None,
        typer.Option(
            help="Environment variable with the judge's key; not given: OPENAI_API_KEY, which only OpenAI and "
            "the server of OPENAI_BASE_URL get."
        ),
    ] = None,
    price_in: Annotated[
        float | None, typer.Option(help="US dollars for a million tokens that the judge reads.")
    ] = None,
    price_out: Annotated[
        float | None, typer.Option(help="US dollars for a million tokens that the judge writes.")
    ] = None,
    mode: Annotated[
        str, typer.Option(help="`pairwise` compares two responses, `score` gives each 1 to 5.")
    ] = "pairwise",
    orders: Annotated[
        str,
        typer.Option(
            help="With pairwise: `both` asks twice, with each response first once; `one` asks once, at half the cost."
        ),
    ] = "both",
    on_disagreement: Annotated[
        str,
        typer.Option(
            help="With pairwise: what to do with a verdict that changes with the order: make it a `tie`, or `drop` it."
        ),
    ] = "tie",
    template: Annotated[
        Path | None,
        typer.Option(
            help="File with your own question to the judge, which holds {prompt}, {response_a} and {response_b}, and "
            "optionally {reference}. Each becomes a block between tags that no text can close."
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Ask the judge for JSON instead of a fixed last line.")
    ] = False,
    max_tokens: Annotated[int, typer.Option(min=1, help="The most tokens of an answer.")] = 1024,
    max_tokens_name: Annotated[
        str,
        typer.Option(
            help="Name by which requests limit an answer's tokens: `max_tokens`, `max_completion_tokens`, or `auto` "
            "for the one that the server takes."
        ),
    ] = "auto",
    response_format: Annotated[
        str,
        typer.Option(
            help="With --json: whether requests hold a response_format: `json_object`, `none`, or `auto` to leave it "
            "out where the server refuses it."
        ),
    ] = "auto",
    temperature: Annotated[
        float,
        typer.Option(
            help="Temperature of all models. A negative number sends none; where a server refuses it, none is sent and "
            "a note says so."
        ),
    ] = 0.0,
    generate: Annotated[
        list[str] | None,
        typer.Option(help="Model that generates missing responses. May be given several times."),
    ] = None,
    generate_base_url: Annotated[
        list[str] | None,
        typer.Option(help="Address of the server of --generate; given once for all models, or once for each."),
    ] = None,
    generate_api_key_env: Annotated[
        list[str] | None,
        typer.Option(
            help="Environment variable with the key of --generate; given once for all models, or once for each."
        ),
    ] = None,
    generate_price_in: Annotated[
        list[float] | None, typer.Option(help="As --price-in; given once for all models, or once for each.")
    ] = None,
    generate_price_out: Annotated[
        list[float] | None, typer.Option(help="As --price-out; given once for all models, or once for each.")
    ] = None,
    generate_max_tokens: Annotated[int, typer.Option(min=1, help="The most tokens of a generated response.")] = 1024,
    models: _Model = None,
    prompts: _PromptFiles = None,
    not_in: _NotIn = None,
    requests_per_min: asking.RequestsPerMin = None,
    tokens_per_min: asking.TokensPerMin = None,
    max_concurrency: asking.MaxConcurrency = 8,
    timeout_s: asking.TimeoutS = 120.0,
    max_retries: asking.MaxRetries = 5,
    parse_retries: Annotated[
        int, typer.Option(min=0, help="How often to ask again when an answer holds no verdict.")
    ] = 2,
    max_failure_share: Annotated[
        float, typer.Option(help="Stop when more than this share of the contests has no verdict.")
    ] = 0.1,
    max_cost_usd: asking.MaxCostUsd = None,
    journal: Annotated[
        Path | None, typer.Option(help="File that keeps every answer; not given: OUT.journal beside --out.")
    ] = None,
    from_journal: Annotated[Path | None, typer.Option(help="Make battles from this journal, without any call.")] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Say how many calls, tokens and US dollars a run would take, and call nobody."),
    ] = False,
    ties: _Ties = "keep",
    margin: _Margin = 0.0,
    weights: _Weights = "equal",
    cap_per_prompt: _CapPerPrompt = None,
    seed: _Seed = 0,
    strict: Strict = False,
    report: Annotated[Path | None, typer.Option(help="Also write the report to this file, as JSON.")] = None,
    force: Force = False,
) -> None:
    """Let a language model judge responses. Answers are kept, so the same command continues an interrupted run."""
    from routellm_fast.augmentation import (
        EndpointSettings,
        JudgeConfig,
        Questioner,
        ScoreRules,
        forbidden_groups,
        judged_battles,
        read_contests,
        read_journal,
    )
    from routellm_fast.augmentation.battle_rows import check_battles_path
    from routellm_fast.augmentation.command import JudgeJob
    from routellm_fast.cli import _judging

    rules = ScoreRules(margin=margin, ties=ties, weights=weights, cap_per_prompt=cap_per_prompt, seed=seed)
    _judging.check_report_path(report)
    if from_journal is not None:
        if contests is not None or out is None:
            raise InvalidArgumentError("--from-journal takes --out, and no file of responses")
        check_battles_path(out)
        _judging.check_places({"the battles": out, "the report": report}, [from_journal])
        check_vacant_outputs(out, report, force=force)
        rows, found = judged_battles(read_journal(from_journal), rules=rules, on_disagreement=on_disagreement)
        _judging.finish(out, rows, found, report)
        return
    if contests is None or judge_model is None or out is None:
        raise InvalidArgumentError("judging takes a file of responses, --judge-model and --out")
    check_battles_path(out)
    kept = journal or Path(f"{out}.journal")
    _judging.check_places(
        {"the battles": out, "the journal": kept, "the report": report},
        [contests, template, *(prompts or []), *(not_in or [])],
    )
    if not dry_run:
        _judging.check_vacant(kept, out, report, force=force)
    common: dict[str, Any] = {
        "requests_per_min": requests_per_min,
        "tokens_per_min": tokens_per_min,
        "temperature": None if temperature < 0.0 else temperature,
        "timeout_s": timeout_s,
        "max_retries": max_retries,
        "max_tokens_name": max_tokens_name,
        "response_format": response_format,
    }
    settings = EndpointSettings(
        judge_model,
        base_url=base_url,
        api_key_variable=api_key_env,
        prices=_judging.prices_of(price_in, price_out),
        max_tokens=max_tokens,
        **common,
    )
    generators = _judging.generators_of(
        generate or [],
        base_urls=generate_base_url,
        key_variables=generate_api_key_env,
        prices_in=generate_price_in,
        prices_out=generate_price_out,
        common={**common, "max_tokens": generate_max_tokens},
    )
    left_out = left_out_of(strict=strict)
    questioner = Questioner(settings, _judging.template_of(mode, template, as_json=as_json), orders)
    with busy("reading"):
        read = read_contests(
            contests,
            prompts=_judging.read_all_prompts(prompts, left_out),
            models=_judging.model_names(models),
            generated=tuple(generators),
            forbidden=forbidden_groups(not_in or [], left_out=left_out),
            left_out=left_out,
        )
    say_left_out(left_out)  # before anything is paid for
    job = JudgeJob(
        contests=read.found,
        questioner=questioner,
        journal=kept,
        generators=generators,
        config=JudgeConfig(max_concurrency, parse_retries, max_failure_share),
        rules=rules,
        on_disagreement=on_disagreement,
        max_cost_usd=max_cost_usd,
    )
    if dry_run:
        _judging.show_estimate(job)
    else:
        _judging.judge_and_write(job, out, report)
    _judging.show_left_out(read)
