"""`routellm-fast calibrate`."""

from __future__ import annotations

import contextlib
import datetime
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import typer
from rich.table import Table

from routellm_fast import data
from routellm_fast.artifact import ROUTER_LAYOUT, check_replaceable, read_artifact
from routellm_fast.calibration.operating_points import OperatingPoint, Target
from routellm_fast.cli._allowed import AllowServer
from routellm_fast.cli._digest import Digest
from routellm_fast.cli._embedder import OPENAI_NAME, named_embedder
from routellm_fast.cli._left_out import Strict, left_out_of, say_left_out
from routellm_fast.cli._outputs import Force, check_vacant_outputs
from routellm_fast.cli._printing import console, say, say_json, tell
from routellm_fast.cli._progress import progress_bar
from routellm_fast.cli._prompts import PromptFormat, read_prompts
from routellm_fast.cli._streams import ReaderGoneError
from routellm_fast.decision import ModelPair
from routellm_fast.errors import ArtifactWriteError, InvalidArgumentError, UnknownModelError
from routellm_fast.interval import Interval
from routellm_fast.prices import ModelPrice, PairPrices, assigned_usd
from routellm_fast.routers.base import Router
from routellm_fast.routers.loading import SHIPPED_ROUTER, load_router, restore_unasked, router_directory
from routellm_fast.shown import shown
from routellm_fast.tables import LeftOut
from routellm_fast.thresholds.command import PROBABILITY_CHOICES, Calibrated, ProbabilityChoice
from routellm_fast.thresholds.command import calibrate as find_calibration
from routellm_fast.thresholds.drift import Drift, check_drift
from routellm_fast.thresholds.search import RESAMPLES
from routellm_fast.thresholds.traffic import Traffic, score

_DEFAULT_SHARES: Final = (0.1, 0.25, 0.5, 0.75, 0.9)
_DRIFTED: Final = 1
_ALPHA: Final = 0.01
_TOLERANCE: Final = 0.02
# Width where the output is no terminal, so that rows of tables are not broken.
_FILE_WIDTH: Final = 200


def calibrate(
    router: Path = typer.Argument(help="Router directory, or mf or sw_ranking for one that ships."),
    prompts: Path = typer.Argument(
        help="Log of prompts: text with one prompt a line, JSON lines with `prompt` or `messages`, a table with a "
        "prompt, or - for standard input. A prompt that was asked twice counts twice."
    ),
    strong_share: list[float] | None = typer.Option(
        None,
        help="Find the threshold that sends this share of requests to the strong model. Each of these five targets may "
        "be given several times.",
    ),
    cost_usd_per_1k: list[float] | None = typer.Option(
        None, help="Find the threshold at which 1,000 requests cost at most this many US dollars. Needs --price."
    ),
    cost_share: list[float] | None = typer.Option(
        None,
        help="Find the threshold that costs at most this share of what the strong model alone would cost. Needs "
        "--price.",
    ),
    pgr: list[float] | None = typer.Option(
        None,
        help="Find the threshold that recovers this share of the quality gap between the models, e.g. 0.8. Needs "
        "--labels.",
    ),
    quality: list[float] | None = typer.Option(None, help="Find the threshold with this mean score. Needs --labels."),
    price: list[str] | None = typer.Option(
        None,
        metavar="MODEL=IN/OUT",
        help="Price of a model: US dollars for a million input tokens and for a million output tokens. MODEL is "
        "strong, weak, or the name of one of them.",
    ),
    request_price: list[str] | None = typer.Option(
        None, metavar="MODEL=USD", help="US dollars for each request, in addition to its tokens."
    ),
    output_tokens: float | None = typer.Option(
        None, help="Mean number of tokens of an answer; needed where output tokens have a price."
    ),
    input_tokens: float | None = typer.Option(
        None, help="Mean number of tokens of a prompt; not given: the router's tokenizer counts each prompt."
    ),
    labels: list[Path] | None = typer.Option(
        None, help="File of golden labels: a prompt and one score column for each model. May be given several times."
    ),
    battles: list[Path] | None = typer.Option(
        None, help="File of battles: prompt, model_a, model_b, winner; for --probability. May be given several times."
    ),
    prompt_ids: list[Path] | None = typer.Option(None, help="File in which the prompt_id of a row is looked up."),
    strong_label: str | None = typer.Option(
        None, help="Name of the strong model in labels and battles; not given: the router's strong model."
    ),
    weak_label: str | None = typer.Option(
        None, help="Name of the weak model in labels and battles; not given: the router's weak model."
    ),
    probability: str = typer.Option(
        "keep",
        help="Map from win rates to probabilities, fitted on labels and battles: platt, isotonic, or best for the "
        "better of the two; keep for the router's present map, none for no map.",
    ),
    out: Path | None = typer.Option(None, help="Router directory to write the router with its new calibration to."),
    in_place: bool = typer.Option(False, "--in-place", help="Replace the router itself, in one step."),
    force: Force = False,
    check: bool = typer.Option(
        False,
        "--check",
        help="Change nothing; say whether these prompts still match the calibration, and exit with status 1 if they do "
        "not.",
    ),
    alpha: float = typer.Option(
        _ALPHA, help="With --check: share of checks in which unchanged traffic may count as drifted."
    ),
    tolerance: float = typer.Option(
        _TOLERANCE, help="With --check: a change of the strong share that does not matter."
    ),
    embedder: str | None = typer.Option(
        None,
        help="Embedder that the router was trained with, where it does not hold its own: a directory, onnx:DIR, or "
        f"{OPENAI_NAME}.",
    ),
    digest: Digest = None,
    allow_server: AllowServer = None,
    dataset: str = typer.Option("", help="Name of the prompts, for the record; not given: the file's name."),
    created: str = typer.Option("", help="Date for the record; not given: today."),
    form: PromptFormat = typer.Option(PromptFormat.AUTO, "--format", help="How lines become prompts."),
    seed: int = typer.Option(0, min=0, help="Draws resamples and folds; the same seed gives the same result."),
    resamples: int = typer.Option(RESAMPLES, min=100, help="Number of resamples behind each interval."),
    strict: Strict = False,
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Find thresholds for a share, a budget or a quality on your prompts, and store them in the router."""
    directory = router_directory(router)
    values = {
        "strong_share": strong_share,
        "cost_usd_per_1k": cost_usd_per_1k,
        "cost_share": cost_share,
        "pgr": pgr,
        "quality": quality,
    }
    targets = [Target(kind, value) for kind, given in values.items() for value in given or []]  # type: ignore[arg-type]
    loaded = load_router(
        directory,
        digest=digest,
        embedder=None if embedder is None else named_embedder(embedder),
        allow_server=allow_server,
    )
    left_out = left_out_of(strict=strict)
    if check:
        named = strong_label or weak_label or dataset or created or force
        if targets or out or in_place or price or request_price or labels or battles or probability != "keep" or named:
            raise InvalidArgumentError(
                "--check only compares: leave out targets, prices, labels, --out, --in-place and --force"
            )
        traffic = _traffic(prompts, form, _prompt_ids(prompt_ids, left_out), left_out)
        say_left_out(left_out)
        _check(loaded, traffic, alpha, tolerance, as_json=as_json)
        return
    if (alpha, tolerance) != (_ALPHA, _TOLERANCE):
        raise InvalidArgumentError("--alpha and --tolerance do nothing without --check")
    if (strong_label or weak_label) and not (labels or battles):
        raise InvalidArgumentError("--strong-label and --weak-label do nothing without --labels or --battles")
    if battles and probability in ("keep", "none"):
        raise InvalidArgumentError("--battles are used only to fit a map: add --probability platt, isotonic or best")
    target = _target_directory(directory, out, in_place=in_place, force=force)
    ids = _prompt_ids(prompt_ids, left_out)
    own = loaded.model_pair
    labelled_pair = ModelPair(strong_label or own.strong, weak_label or own.weak)
    with progress_bar("reading") as on_progress:
        found = find_calibration(
            loaded,
            _traffic(prompts, form, ids, left_out),
            dataset=dataset or ("standard input" if str(prompts) == "-" else prompts.name),
            targets=targets or [Target("strong_share", share) for share in _DEFAULT_SHARES],
            prices=_prices(price or [], request_price or [], own, output_tokens, input_tokens),
            labelled=data.read_golden_files(labels or [], prompts=ids, models=labelled_pair, left_out=left_out),
            battles=[
                row
                for path in battles or []
                for row in data.read_battles(path, prompts=ids, drop_ties=False, left_out=left_out)
            ],
            labelled_pair=labelled_pair,
            probability=_probability(probability),
            created=created or datetime.datetime.now(tz=datetime.timezone.utc).date().isoformat(),
            seed=seed,
            resamples=resamples,
            on_progress=on_progress,
        )
    say_left_out(left_out)
    written = None
    if target is not None:
        # Read anew, without the embedder of the command line: all but the calibration stays as it was, to the byte.
        artifact = read_artifact(directory, ROUTER_LAYOUT, digest=digest)
        written = restore_unasked(artifact, directory).with_calibration(found.calibration).save(target)
    if as_json:
        say_json(_record(found, target, written))
        return
    _show(directory, loaded, found, target, written)


def _traffic(path: Path, form: PromptFormat, ids: data.Prompts | None, left_out: LeftOut) -> Traffic:
    file = None if str(path) == "-" else path
    found = read_prompts([], file, form, ids=ids, keep_blank=True, left_out=left_out)
    return Traffic.of(prompt.text for prompt in found)


def _prompt_ids(paths: Sequence[Path] | None, left_out: LeftOut) -> data.Prompts | None:
    if not paths:
        return None
    return {key: value for path in paths for key, value in data.read_prompts(path, left_out=left_out).items()}


def _probability(choice: str) -> ProbabilityChoice:
    if choice not in PROBABILITY_CHOICES:
        raise InvalidArgumentError(f"--probability must be one of {', '.join(PROBABILITY_CHOICES)}, found {choice!r}")
    return choice  # type: ignore[return-value]


def _target_directory(directory: Path, out: Path | None, *, in_place: bool, force: bool) -> Path | None:
    """Return the directory to write, None for none. Raises before the work where it cannot be written."""
    if out is not None and in_place:
        raise InvalidArgumentError("give --out or --in-place, not both")
    target = directory if in_place else out
    if target is not None and target.resolve().is_relative_to(SHIPPED_ROUTER.parent.resolve()):
        raise InvalidArgumentError(
            f"{target} ships with the package and is never changed: give --out another directory"
        )
    if out is not None and out.resolve() == directory.resolve():
        raise InvalidArgumentError(f"{out} is the router itself: give --in-place to replace it")
    if target is not None:
        check_replaceable(target, ROUTER_LAYOUT)
    check_vacant_outputs(out, force=force)
    if target is not None:
        from routellm_fast.places import check_writable, destination  # most commands only read

        try:
            check_writable(destination(target).parent)
        except OSError as error:
            raise ArtifactWriteError(f"{target} cannot be written ({error.strerror})") from error
    return target


def _prices(
    tokens: Sequence[str],
    requests: Sequence[str],
    pair: ModelPair,
    output_tokens: float | None,
    input_tokens: float | None,
) -> PairPrices | None:
    if not tokens and not requests:
        if output_tokens is not None or input_tokens is not None:
            raise InvalidArgumentError("--output-tokens and --input-tokens do nothing without --price")
        return None
    found: dict[str, dict[str, float]] = {"strong": {}, "weak": {}}
    for text in tokens:
        model, values = _assigned(text, pair, "--price", "MODEL=IN/OUT, e.g. strong=10/30", 2)
        _set_once(found[model], {"input_usd_per_1m": values[0], "output_usd_per_1m": values[1]}, text)
    for text in requests:
        model, values = _assigned(text, pair, "--request-price", "MODEL=USD, e.g. strong=0.01", 1)
        _set_once(found[model], {"request_usd": values[0]}, text)
    for model, name in zip(found, pair, strict=True):
        if not found[model]:
            raise InvalidArgumentError(f"{name!r} has no price: give the prices of both models, 0/0 for a free one")
    return PairPrices(ModelPrice(**found["strong"]), ModelPrice(**found["weak"]), output_tokens, input_tokens)


def _assigned(text: str, pair: ModelPair, option: str, shape: str, count: int) -> tuple[str, tuple[float, ...]]:
    assigned = assigned_usd(text, count)
    if assigned is None:
        raise InvalidArgumentError(f"{option} must be {shape}, found {text!r}")
    name, values = assigned
    roles = {"strong": "strong", "weak": "weak", pair.weak: "weak", pair.strong: "strong"}
    if name not in roles:
        raise UnknownModelError(
            f"{option} names {name!r}, which is not one of this router's models: {pair.strong}, {pair.weak}"
        )
    return roles[name], values


def _set_once(prices: dict[str, float], new: dict[str, float], text: str) -> None:
    if set(prices) & set(new):
        raise InvalidArgumentError(f"{text!r} is a second price for the same model")
    prices.update(new)


def _record(found: Calibrated, target: Path | None, digest: str | None) -> dict[str, Any]:
    calibration = found.calibration.to_json()
    kept = {key: value for key, value in calibration.items() if key not in ("table", "win_rate_quantiles")}
    return {
        **kept,
        **found.facts,
        "probability_fit": found.probability and found.probability.to_json(),
        "warnings": list(found.warnings),
        "written": None if target is None else str(target),
        "digest": digest,
    }


def _show(directory: Path, router: Router, found: Calibrated, target: Path | None, digest: str | None) -> None:
    output = console(width=_FILE_WIDTH, highlight=True)
    facts, pair = found.facts, router.model_pair
    repeated = facts["requests"] - facts["distinct_prompts"]
    notes = [f"{repeated:,} of them repeated"] if repeated else []
    notes += [f"{facts['blank_prompts_left_out']:,} blank ones left out"] if facts["blank_prompts_left_out"] else []
    notes += [f"{facts['labelled_rows']:,} labelled rows"] if facts["labelled_rows"] else []
    notes += [f"{facts['labelled_rows_left_out']:,} without both scores"] if facts["labelled_rows_left_out"] else []
    say(f"{directory}: {pair.strong} from the threshold on, else {pair.weak}")
    say(", ".join([f"{facts['requests']:,} prompts of {found.calibration.dataset}", *notes]), "")
    output.print(_points_table(list(found.calibration.operating_points.values()), facts["labelled_strong_shares"]))
    if found.probability is not None:
        fit = found.probability
        stored = "not stored" if fit.refusal else "stored" if target else "not stored yet"
        levels = "" if fit.map.levels is None else f", {fit.map.levels} levels"
        say("", f"{fit.method} map on {fit.rows:,} outcomes of {fit.groups:,} prompts{levels}: {stored}")
        table = _table("on held-out prompts", "log loss", "Brier", "ECE", "ECE less its noise")
        for name, figures in (("win rates as they are", fit.before), ("through the map", fit.after)):
            ece = _interval(figures.ece, ".4f")
            table.add_row(name, f"{figures.log_loss:.5f}", f"{figures.brier:.5f}", ece, f"{figures.ece_debiased:.4f}")
        output.print(table)
    for warning in found.warnings:
        tell(warning, by="warning: ")
    say("", f"written to {target}" if target else "nothing is stored: give --out DIR or --in-place")
    if target:
        say(f"digest: {digest}")


def _points_table(points: Sequence[OperatingPoint], random_pgrs: Mapping[str, float]) -> Table:
    columns: dict[str, Callable[[OperatingPoint], str]] = {
        "threshold": lambda point: _interval(point.threshold, ".5f"),
        "strong share": lambda point: _interval(point.strong_share, ".2%"),
    }
    if any(point.cost_usd_per_1k for point in points):
        columns["USD per 1,000"] = lambda point: _interval(point.cost_usd_per_1k, "#,.4g")
    if any(point.quality for point in points):
        columns["quality"] = lambda point: _interval(point.quality, ".4f")
    if any(point.pgr for point in points):
        columns["PGR"] = lambda point: _interval(point.pgr, ".1%")
        # Random routing recovers the share of the gap that it sends to the strong model.
        columns["PGR at random"] = lambda point: f"{random_pgrs[point.target.name]:.1%}"
    table = _table("target", *columns)
    for point in points:
        table.add_row(shown(point.target.name), *(show(point) for show in columns.values()))
    return table


def _interval(found: Interval | None, form: str) -> str:
    if found is None:
        return ""
    return f"{found.value:{form}} ({found.low:{form}} to {found.high:{form}})"


def _check(router: Router, traffic: Traffic, alpha: float, tolerance: float, *, as_json: bool) -> None:
    if router.calibration is None:
        raise InvalidArgumentError("this router has no calibration to check: calibrate it first")
    with progress_bar("reading") as on_progress:
        rates = score(
            router,
            traffic.prompts,
            on_progress=lambda done, of: on_progress("scoring prompts", done, of),
        )
    drift = check_drift(router.calibration, traffic.per_request(rates), alpha=alpha, tolerance=tolerance)
    # The exit status is an answer too, and stays one where nobody reads the rest.
    with contextlib.suppress(ReaderGoneError):
        if as_json:
            say_json(drift.to_json())
        else:
            _show_drift(drift, router.calibration.dataset)
        sys.stdout.flush()
    if drift.drifted:
        raise typer.Exit(_DRIFTED)


def _show_drift(drift: Drift, dataset: str) -> None:
    meaning = {
        "matches": "these prompts look like those of the calibration",
        "drifted": "these prompts no longer look like those of the calibration: calibrate again",
        "too few to tell": f"only a change of the strong share by {drift.detectable:.0%} or more would have shown",
    }
    say(f"{drift.verdict}: {meaning[drift.verdict]}")
    say(
        f"{drift.request_count:,} prompts against {drift.calibration_count:,} of {dataset}: the strong share at one "
        f"threshold or another differs by up to {drift.statistic:.2%} (Kolmogorov-Smirnov, p {_p(drift.p_value)}); "
        f"changes from {drift.detectable:.1%} on would show; PSI {drift.psi:.3f}",
        "",
    )
    table = _table("operating point", "threshold", "expected share", "strong share", "p")
    for point in drift.points:
        share = _interval(point.strong_share, ".2%")
        table.add_row(
            shown(point.name), f"{point.threshold:.5f}", f"{point.expected_share:.2%}", share, _p(point.p_value)
        )
    console(width=_FILE_WIDTH, highlight=True).print(table)


def _p(value: float) -> str:
    return f"{value:.3f}" if value >= 0.001 else "< 0.001"


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(column, no_wrap=True)
    return table
