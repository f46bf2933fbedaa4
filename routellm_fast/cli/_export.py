"""`routellm-fast export`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from routellm_fast.cli._allowed import AllowServer
from routellm_fast.cli._left_out import left_out_of, say_left_out
from routellm_fast.cli._outputs import Force, check_vacant_outputs
from routellm_fast.cli._printing import say, say_json
from routellm_fast.cli._prompts import PromptFormat, read_prompts
from routellm_fast.errors import DataError, InvalidArgumentError

if TYPE_CHECKING:
    from routellm_fast.export import ExportReport

app = typer.Typer(
    help="Write a router in another format, after comparing its win rates with the router's.", no_args_is_help=True
)

_MOST_PROMPTS: Final = 512

_Router = Annotated[str, typer.Argument(help="Router directory, or mf or sw_ranking for one that ships.")]
_Out = Annotated[Path, typer.Argument(help="Directory to write.")]
_Inputs = Annotated[
    str,
    typer.Option(help="What the graph reads: tokens, embeddings, or auto, which is tokens where the router allows it."),
]
_Prompts = Annotated[
    Path | None,
    typer.Option(
        help="File of prompts like your traffic, on which win rates are compared and the scales of int8-static are "
        "chosen: "
        "one prompt a line, JSON lines, or a table with a prompt. Not given: some varied prompts."
    ),
]
_Limit = Annotated[
    int | None,
    typer.Option(
        min=1,
        help=f"The most prompts of --prompts that are used, taken evenly from the file; default: {_MOST_PROMPTS}.",
        show_default=False,
    ),
]
_Bound = Annotated[
    float | None,
    typer.Option(help="The largest allowed difference of win rates; default: depends on kind of router and precision."),
]
_Benchmarks = Annotated[
    Path | None, typer.Option(help="Folder of RouteLLM's benchmarks: the report compares APGR on them.")
]
_Json = Annotated[bool, typer.Option("--json", help="Print the report as JSON.")]


@app.command("onnx")
def onnx(
    router: _Router,
    out: _Out,
    inputs: _Inputs = "auto",
    precision: str = typer.Option(
        "float32", help="Precision of the graph: float32, float16, bfloat16, int8 or int8-static (QDQ)."
    ),
    prompts: _Prompts = None,
    limit: _Limit = None,
    bound: _Bound = None,
    benchmarks: _Benchmarks = None,
    allow_server: AllowServer = None,
    force: Force = False,
    as_json: _Json = False,
) -> None:
    """Write an ONNX graph, which any ONNX Runtime runs: model.onnx and export-report.json."""
    check_vacant_outputs(out, force=force)
    from routellm_fast.export import export_onnx  # as heavy as what it needs

    report = export_onnx(
        router,
        out,
        inputs=inputs,
        precision=precision,
        prompts=_read(prompts, limit) or (),
        bound=bound,
        allow_server=allow_server,
        benchmarks=_benchmarks(benchmarks),
    )
    _show(out, report, as_json)


@app.command("tensorrt")
def tensorrt(
    router: _Router,
    out: _Out,
    inputs: _Inputs = "auto",
    precision: str = typer.Option("float32", help="Precision of the plan: float32, float16, bfloat16 or int8-static."),
    batch: tuple[int, int, int] = typer.Option(
        (1, 8, 64), help="The smallest, usual and largest number of prompts in a batch."
    ),
    length: tuple[int, int, int] | None = typer.Option(
        None,
        help="The smallest, usual and largest number of tokens of a prompt, where the graph reads tokens; default: 1 "
        "64 512.",
        show_default=False,
    ),
    runtime: str = typer.Option(
        "auto", help="Library that builds the plan: tensorrt, tensorrt_rtx, or auto for the first that is installed."
    ),
    targets: list[str] | None = typer.Option(
        None,
        "--compute-capability",
        help="Kind of GPU that TensorRT-RTX builds for, e.g. 8.9. May be given several times; not given: all that it "
        "knows.",
    ),
    cache: Path | None = typer.Option(None, help="Folder that keeps timings and engines for later runs."),
    prompts: _Prompts = None,
    limit: _Limit = None,
    bound: _Bound = None,
    benchmarks: _Benchmarks = None,
    allow_server: AllowServer = None,
    force: Force = False,
    as_json: _Json = False,
) -> None:
    """Write a TensorRT plan: model.plan, engine.json, and the ONNX graph that it was built from with its report."""
    check_vacant_outputs(out, force=force)
    from routellm_fast.export import export_tensorrt

    report = export_tensorrt(
        router,
        out,
        inputs=inputs,
        precision=precision,
        batch=batch,
        length=length,
        runtime=runtime,
        targets=targets or (),
        cache=cache,
        prompts=_read(prompts, limit) or (),
        bound=bound,
        allow_server=allow_server,
        benchmarks=_benchmarks(benchmarks),
    )
    _show(out, report, as_json)


@app.command("triton")
def triton(
    router: _Router,
    out: _Out,
    mode: str = typer.Option(
        "python",
        help="What scores in the server. native: this package's C++ backend. python: Triton's Python backend, with "
        "this package installed there. onnx, tensorrt: an ensemble with the graph or the plan.",
    ),
    name: str = typer.Option(
        "router", help="Name of the model that clients ask. Names of an ensemble's steps begin with it."
    ),
    version: int = typer.Option(1, min=1, help="Version of the models."),
    strong_model: str | None = typer.Option(None, help="Name of the strong model, instead of the stored one."),
    weak_model: str | None = typer.Option(None, help="Name of the weak model, instead of the stored one."),
    digest: str | None = typer.Option(
        None,
        metavar="SHA256",
        help="Take the router only if its directory has this digest, which `info ROUTER --digest` prints. In modes "
        "native and python the server then serves the router as it is written here, and no other.",
        show_default=False,
    ),
    default_threshold: float | None = typer.Option(
        None,
        help="Threshold for requests without one; default: the one that sends half of the calibration's prompts to the "
        "strong model, and required for a router without a calibration.",
        show_default=False,
    ),
    strong_share: float | None = typer.Option(
        None,
        help="Instead of --default-threshold: use the threshold that sends this share of the calibration's prompts to "
        "the strong model.",
    ),
    max_batch_size: int = typer.Option(64, min=1, help="The most prompts that are scored at once."),
    max_queue_delay: int = typer.Option(
        100, min=0, help="The most microseconds that a request waits for others, so that they form a batch."
    ),
    instances: int = typer.Option(1, min=1, help="Number of copies of each model that run at once."),
    threads: int | None = typer.Option(
        None,
        min=1,
        help="Number of threads of each copy, in the modes native and onnx, and in mode python for a bert router; "
        "default: 1.",
    ),
    device: str | None = typer.Option(
        None,
        help="Mode onnx: device that runs the graph, cpu or cuda (also called gpu); default: cpu.",
        show_default=False,
    ),
    response_cache: bool = typer.Option(
        False, "--response-cache", help="Let Triton answer equal requests from its cache."
    ),
    inputs: str | None = typer.Option(
        None,
        help="Modes onnx and tensorrt: what the graph reads, as in export onnx; default: auto.",
        show_default=False,
    ),
    precision: str | None = typer.Option(
        None,
        help="Modes onnx and tensorrt: the graph's precision, as in export onnx and tensorrt; default: float32.",
        show_default=False,
    ),
    runtime: str | None = typer.Option(
        None,
        help="Mode tensorrt: library that builds the plan, as in export tensorrt; default: tensorrt.",
        show_default=False,
    ),
    cache: Path | None = typer.Option(
        None, help="Mode tensorrt: folder that keeps timings and engines for later runs."
    ),
    prompts: _Prompts = None,
    limit: _Limit = None,
    bound: _Bound = None,
    allow_server: AllowServer = None,
    force: Force = False,
    as_json: _Json = False,
) -> None:
    """Write a model repository for Triton Inference Server; docs/triton.md says how to serve it.

    Options that the mode does not use are refused.
    """
    check_vacant_outputs(out, force=force)
    from routellm_fast.export import export_triton

    export = export_triton(
        router,
        out,
        mode=mode,
        name=name,
        version=version,
        strong_model=strong_model,
        weak_model=weak_model,
        digest=digest,
        default_threshold=default_threshold,
        strong_share=strong_share,
        max_batch_size=max_batch_size,
        max_queue_delay_us=max_queue_delay,
        instances=instances,
        threads=threads,
        device=device,
        response_cache=response_cache,
        inputs=inputs,
        precision=precision,
        runtime=runtime,
        cache=cache,
        prompts=_read(prompts, limit),
        bound=bound,
        allow_server=allow_server,
    )
    if as_json:
        say_json(export.to_json())
        return
    say(f"{out}: {export.kind} in mode {export.mode}, ask {export.name} for {', '.join(export.inputs)}")
    if export.graph is not None:
        _show(out, export.graph, as_json=False)


def _read(path: Path | None, limit: int | None) -> list[str] | None:
    """Return the prompts of a file, at most `limit` or the default of them; None where there is no file."""
    if path is None:
        if limit is not None:
            raise InvalidArgumentError("--limit does nothing without --prompts: give both, or neither")
        return None
    left_out = left_out_of(strict=False)
    found = [prompt.text for prompt in read_prompts([], path, PromptFormat.AUTO, left_out=left_out)]
    say_left_out(left_out)
    if not found:
        raise DataError(f"{path} holds no prompts: expected one a line, JSON lines, or a table with a prompt")
    return found[:: -(-len(found) // (limit or _MOST_PROMPTS))]


def _benchmarks(folder: Path | None) -> Sequence[Any]:
    if folder is None:
        return ()
    from routellm_fast.evaluation import read_benchmarks

    return list(read_benchmarks(folder))


def _show(out: Path, report: ExportReport, as_json: bool) -> None:
    if as_json:
        say_json(report.to_json())
        return
    changed = max(report.changed_decisions.values(), default=0)
    say(
        f"{out}: {report.kind} from {report.inputs}, {report.precision}, {report.model_bytes:,} bytes; within "
        f"{report.max_difference:.1e} of the router on {report.prompts} prompts (bound {report.bound:g}), at most "
        f"{changed} decisions changed, {report.verified_on}"
    )
    for name, values in report.apgr.items():
        say(f"  {name}: APGR {values['router']:.4f}, exported {values['exported']:.4f}")
    for note in report.notes:
        say(f"  {note}")
