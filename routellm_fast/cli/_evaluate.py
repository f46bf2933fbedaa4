"""`routellm-fast evaluate`."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from routellm_fast.cli._allowed import AllowServer
from routellm_fast.cli._evaluate_log import ENGINES, stream_logs
from routellm_fast.cli._evaluate_many import (
    ALL_PAIRS,
    TABLE_COSTS,
    Shown,
    evaluated_pairs,
    evaluated_pool,
    labelled_rows,
)
from routellm_fast.cli._evaluation_tables import print_benchmark
from routellm_fast.cli._left_out import Strict, left_out_of, say_left_out
from routellm_fast.cli._outputs import Force, check_vacant_outputs
from routellm_fast.cli._printing import say, say_json
from routellm_fast.cli._progress import progress_bar
from routellm_fast.data import known_aliases, read_prompts
from routellm_fast.decision import ModelPair
from routellm_fast.errors import DataError, InvalidArgumentError, UnknownModelError
from routellm_fast.evaluation import comparison
from routellm_fast.evaluation.datasets import (
    BENCHMARKS,
    PAPER_PAIR,
    Benchmark,
    read_benchmarks,
    read_table_benchmark,
    training_groups,
    without_groups,
)
from routellm_fast.evaluation.results import BASELINES, RANDOM
from routellm_fast.evaluation.streaming import LogColumns
from routellm_fast.evaluation.win_rates import RouterIdentity, directory_identity
from routellm_fast.prices import PAPER_TOKENS, PAPER_USD_PER_1M, PriceList, assigned_usd, read_price_list
from routellm_fast.routers import Router, load_router
from routellm_fast.routers.loading import SHIPPED_KINDS, router_directory

# Files of results that the report does not hold.
_RECORDS: Final = {"pool": "pool.json", "transfer": "transfer.json"}


def evaluate(
    routers: Annotated[
        list[str] | None,
        typer.Argument(
            help="Routers to compare: directories, NAME=DIRECTORY, or mf and sw_ranking, which ship. Without any: mf. "
            "Random routing, prompt length and the oracle are always shown beside them.",
            show_default=False,
        ),
    ] = None,
    benchmarks: Annotated[
        Path | None,
        typer.Option(help="Folder of MMLU, GSM8K and MT-Bench in RouteLLM's layout, or a checkout of RouteLLM."),
    ] = None,
    benchmark: Annotated[
        list[str] | None,
        typer.Option(
            help=f"Use only this benchmark of --benchmarks: {', '.join(BENCHMARKS)}. May be given several times."
        ),
    ] = None,
    golden: Annotated[
        list[Path] | None,
        typer.Option(
            help="Table of golden labels: a prompt and one score column for each model, optionally `domain` or "
            "`source`, "
            "and `MODEL|total_cost`. May be given several times."
        ),
    ] = None,
    allow_server: AllowServer = None,
    prompts: Annotated[
        Path | None, typer.Option(help="File of prompts in which a prompt_id of --golden or --train-data is looked up.")
    ] = None,
    strong_model: Annotated[str, typer.Option(help="Name of the strong model in the data.")] = PAPER_PAIR.strong,
    weak_model: Annotated[str, typer.Option(help="Name of the weak model in the data.")] = PAPER_PAIR.weak,
    train_data: Annotated[
        list[Path] | None,
        typer.Option(
            help="Training file. Prompts that it holds are left out of --benchmarks and --golden, and counted; --log "
            "is read as it is. May be given several times."
        ),
    ] = None,
    prices: Annotated[
        list[str] | None,
        typer.Option(
            help="Price of a model: MODEL=USD, US dollars for a million tokens, or a JSON file that maps models to "
            "such "
            "prices. Default: the paper's prices. Costs in --golden are used instead of prices. May be given several "
            "times."
        ),
    ] = None,
    tokens_per_prompt: Annotated[
        float,
        typer.Option(help="Mean number of tokens of a prompt and its answer together; the default is the paper's."),
    ] = PAPER_TOKENS.total,
    resamples: Annotated[
        int, typer.Option(min=1, help="Number of bootstrap resamples behind each 95 % interval.")
    ] = 2000,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the resamples and of random routing.")] = 0,
    cache: Annotated[
        Path | None, typer.Option(help="Folder in which win rates are kept, by digest of router and prompts.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder for report.html, its pictures and evaluation.json, and for pool and transfer as JSON and as "
            "Markdown (extra `evaluate`)."
        ),
    ] = None,
    force: Force = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print tables as Markdown.")] = False,
    domains: Annotated[bool, typer.Option("--domains", help="Print a table of domains too.")] = False,
    pool: Annotated[
        list[str] | None,
        typer.Option(
            help="Choose among many models of --golden with the first router, which must be of kind mf. Takes NAME=USD "
            f"a thousand requests, a table of models as `rank` reads it, or `{TABLE_COSTS}` for all models whose costs "
            "--golden holds. May be given several times. The routers are then not evaluated on --golden as a benchmark."
        ),
    ] = None,
    transfer: Annotated[
        list[str] | None,
        typer.Option(
            help="Evaluate each router, unchanged, on another pair of --golden: STRONG,WEAK, or "
            f"`{ALL_PAIRS}` for all with a clear gap. May be given several times."
        ),
    ] = None,
    log: Annotated[
        list[Path] | None,
        typer.Option(
            help="Log of any size, with the columns of --golden, read in constant memory. May be given several times."
        ),
    ] = None,
    domain_column: Annotated[str | None, typer.Option(help="Column of --log that names a domain.")] = None,
    models: Annotated[
        list[str] | None,
        typer.Option(
            help="With --pool or --transfer: use only these models' columns of --golden. May be given several times; "
            "not given: every column that its name does not show to be another."
        ),
    ] = None,
    strict: Strict = False,
    skip_bad_rows: Annotated[
        bool,
        typer.Option(
            "--skip-bad-rows",
            help="Does nothing any more: rows that cannot be used are left out unless --strict is given.",
        ),
    ] = False,
    digest: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[ROUTER=]SHA256",
            help="Take the router only if its directory has this digest, which `info ROUTER --digest` prints; with "
            "several routers ROUTER=DIGEST, and ROUTER as it is given. May be given several times.",
            show_default=False,
        ),
    ] = None,
    engine: Annotated[
        str,
        typer.Option(
            help=f"Engine that reads --log: {' or '.join(ENGINES)} (needs the extra `ray`); the result is the same."
        ),
    ] = "local",
) -> None:
    """Measure routers on benchmarks: APGR, CPT and savings with 95 % intervals, beside baselines."""
    if benchmarks is None and not golden and not log:
        raise InvalidArgumentError(
            "nothing to evaluate on: give --benchmarks (a checkout of RouteLLM, or a folder of its evals), --golden "
            "(a table of your own) or --log"
        )
    if (pool or transfer) and not golden:
        raise InvalidArgumentError("--pool and --transfer need --golden: a table with scores of many models")
    if as_json and markdown:
        raise InvalidArgumentError("give --json or --markdown, not both")
    if benchmark and benchmarks is None:
        raise InvalidArgumentError("--benchmark picks from --benchmarks: give that folder too")
    if models and not (pool or transfer):
        raise InvalidArgumentError("--models picks columns for --pool and --transfer: give one of these too")
    if strict and skip_bad_rows:
        raise InvalidArgumentError("give --strict or --skip-bad-rows, not both")
    if not log and (domain_column or skip_bad_rows or engine == "ray"):
        raise InvalidArgumentError(
            "--domain-column, --skip-bad-rows and --engine need --log: give a log, or leave them out"
        )
    if engine not in ENGINES:
        raise InvalidArgumentError(f"there is no engine {engine!r}, only {' and '.join(ENGINES)}")
    if out is not None:
        from routellm_fast.evaluation.report import OUTPUTS, check_report

        check_vacant_outputs(*(out / name for name in (*OUTPUTS, *_RECORDS.values())), force=force)
        check_report(out)
    if cache is not None:
        _check_cache(cache)
    given_digests = _digests(digest or [], routers or ["mf"])
    loaded, identities, digests = _load(routers or ["mf"], given_digests, allow_server)
    left_out = left_out_of(strict=strict)
    found_prompts = None if prompts is None else read_prompts(prompts, left_out=left_out)
    groups = training_groups(train_data or [], prompts=found_prompts, left_out=left_out)
    pair = ModelPair(strong_model, weak_model)
    chosen_prices = _prices(prices or [], tokens_per_prompt, pair)
    has_many = bool(pool or transfer)
    sets = [] if benchmarks is None else list(read_benchmarks(benchmarks, pair, _names(benchmark or [])))
    if not has_many:
        sets += [read_table_benchmark(path, pair, prompts=found_prompts, left_out=left_out) for path in golden or []]
    evaluation = None
    with progress_bar("evaluating") as on_progress:
        streamed = []
        if log:
            found = stream_logs(
                loaded,
                {name: (identity.directory, digests[name]) for name, identity in identities.items()},
                log,
                LogColumns(*pair, domain=domain_column),
                engine=engine,
                allow_server=allow_server,
                skip_bad_rows=not strict,
                on_progress=on_progress,
            )
            name = log[0].name if len(log) == 1 else f"{len(log)} logs"
            streamed.append(
                found.result(name, prices=chosen_prices, resamples=resamples, seed=seed, on_progress=on_progress)
            )
        if sets or streamed:
            evaluation = comparison.evaluate(
                loaded,
                [without_groups(entry, groups) if groups else entry for entry in _named_apart(sets)],
                prices=chosen_prices,
                resamples=resamples,
                seed=seed,
                identities=identities,
                cache=cache,
                streamed=streamed,
                on_progress=on_progress,
            )
    tables = {path: labelled_rows(path, found_prompts, groups, models, left_out) for path in golden or [] if has_many}
    many: dict[str, list[Shown]] = {}
    if pool:
        many["pool"] = [evaluated_pool(loaded, tables[path], path, pool, resamples, seed) for path in tables]
    if transfer:
        many["transfer"] = evaluated_pairs(loaded, tables, transfer, resamples, seed)
    record = _record_of(many)
    if evaluation is not None:
        record = {**evaluation.to_json(), **record}
    if as_json:
        say_json(record)
    else:
        for result in evaluation.benchmarks if evaluation is not None else ():
            print_benchmark(result, with_domains=domains, markdown=markdown)
        for shown in (entry for found in many.values() for entry in found):
            shown.show(markdown=markdown)
    if out is not None:
        _write(out, evaluation, many, quiet=as_json)
    say_left_out(left_out)


def _digests(entries: Sequence[str], names: Sequence[str]) -> dict[str, str]:
    """Return the digests of --digest by the routers as they were typed."""
    found: dict[str, str] = {}
    for entry in entries:
        name, _, digest = entry.rpartition("=")
        name = name or names[0]
        if name not in names or name in found or (len(names) > 1 and "=" not in entry):
            raise InvalidArgumentError(
                "--digest is the digest of the only router, or ROUTER=DIGEST, once for each, with ROUTER as it was "
                f"typed before: {', '.join(names)}; found {entry!r}"
            )
        found[name] = digest
    return found


def _load(
    names: Sequence[str], digests: Mapping[str, str], allow_server: list[str] | None
) -> tuple[dict[str, Router], dict[str, RouterIdentity], dict[str, str | None]]:
    """Load routers by the names that tables show: what the user typed, shortened where that stays clear.

    Returns routers, what they are, and the digests that were given for them.
    """
    given: dict[str, str | None] = {}
    routers: dict[str, Router] = {}
    identities: dict[str, RouterIdentity] = {}
    typed = [(*_typed(name), digests.get(name)) for name in names if name != RANDOM or Path(name).exists()]
    shorts = [short for short, _, _ in typed]
    for short, place, digest in typed:
        name = short if shorts.count(short) == 1 and short not in BASELINES else place
        if name in routers:
            raise InvalidArgumentError(f"router {name!r} is named twice")
        directory = router_directory(place)
        routers[name] = load_router(place, digest=digest, allow_server=allow_server)
        identities[name] = directory_identity(directory, shown=place)
        given[name] = digest
    return routers, identities, given


def _check_cache(folder: Path) -> None:
    """Refuse a place that cannot be written before win rates are paid for, not after it."""
    from routellm_fast.places import check_writable  # most commands only read

    try:
        check_writable(folder)
    except OSError as error:
        raise DataError(
            f"win rates cannot be kept in {folder} ({error.strerror or error}): name another cache folder"
        ) from error


def _typed(argument: str) -> tuple[str, str]:
    """Return the name to show and the place of a router."""
    name, mark, place = argument.partition("=")
    if mark and name and place and not Path(argument).exists():
        if name in BASELINES:
            raise InvalidArgumentError(
                f"{name!r} is the name of a baseline, which is always shown: give the router another name"
            )
        return name, place
    return (argument if argument in SHIPPED_KINDS else Path(argument).resolve().name or argument), argument


def _names(names: Sequence[str]) -> Sequence[str]:
    return [name.replace("-", "_") for name in names] or BENCHMARKS


def _named_apart(sets: Sequence[Benchmark]) -> Iterator[Benchmark]:
    """Number benchmarks of one name: two tables may have the same file name."""
    seen: dict[str, int] = {}
    for entry in sets:
        seen[entry.name] = seen.get(entry.name, 0) + 1
        number = seen[entry.name]
        yield entry if number == 1 else dataclasses.replace(entry, name=f"{entry.name} ({number})")


def _prices(entries: Sequence[str], tokens_per_prompt: float, pair: ModelPair) -> PriceList:
    given: dict[str, float] = {}
    aliases = known_aliases()
    names = {aliases.get(name, name) for name in pair}
    for entry in entries:
        if Path(entry).is_file() or "=" not in entry:
            given.update(read_price_list(Path(entry)))
            continue
        assigned = assigned_usd(entry)
        if assigned is None:
            raise InvalidArgumentError(f"--prices takes MODEL=USD a million tokens, or a JSON file, found {entry!r}")
        model, (usd,) = assigned
        given[model] = usd
        if aliases.get(model, model) not in names:
            raise UnknownModelError(
                f"--prices names {model!r}, which is not one of the two models: {pair.strong}, {pair.weak}"
            )
    return PriceList({**PAPER_USD_PER_1M, **given}, tokens_per_prompt)


def _record_of(many: Mapping[str, Sequence[Shown]]) -> dict[str, Any]:
    """Return what JSON holds of pools and pairs: a list of records under each name."""
    return {key: [record for shown in found for record in shown.records] for key, found in many.items()}


def _write(out: Path, evaluation: Any, many: Mapping[str, Sequence[Shown]], *, quiet: bool) -> None:
    from routellm_fast.atomic import replaced_file  # most commands only read

    written: list[Path] = []
    if evaluation is not None:
        from routellm_fast.evaluation.report import write_report

        written += write_report(evaluation, out)
    for key, record in _record_of(many).items():
        page = "\n".join(shown.markdown() for shown in many[key])
        files = {out / f"{key}.json": json.dumps(record, indent=2) + "\n", out / f"{key}.md": page}
        for path, content in files.items():
            try:
                with replaced_file(path) as file:
                    # A lone surrogate has no place in UTF-8.
                    file.write(content.encode("utf-8", "replace"))
            except OSError as error:
                raise DataError(f"{path} cannot be written ({error.strerror or error})") from error
            written.append(path)
    if written and not quiet:
        say(f"wrote {written[0]}" + (f" and {len(written) - 1} files beside it" if len(written) > 1 else ""))
