"""Model repositories, read back with Triton's own protobuf messages. No server."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import routellm_fast as rf
from routellm_fast import cli
from routellm_fast.errors import (
    ArtifactError,
    ArtifactWriteError,
    InvalidArgumentError,
    InvalidThresholdError,
    MissingExtraError,
    UnsupportedExportError,
)
from routellm_fast.routers import BertRouter, MatrixFactorizationRouter, RandomRouter
from routellm_fast.serving import triton_protocol
from routellm_fast.serving.triton_backend import RouterModel, Settings
from routellm_fast.serving.triton_protocol import Served, float32_threshold
from tests.support.builders import PAIR, bert_router, mf_router, mf_weights, static_embedder
from tests.support.opened_files import counted_opens
from tests.support.processes import assert_refused, run_cli
from tests.support.sw_builders import battle_texts, sw_router

pytest.importorskip("tritonclient.grpc")
onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

from google.protobuf import text_format  # noqa: E402
from google.protobuf.json_format import MessageToDict  # noqa: E402
from routellm_fast.export import export_triton, exportable, router_digest  # noqa: E402
from routellm_fast.export.triton_preparation import Preparation, longest_of  # noqa: E402
from tritonclient.grpc import model_config_pb2  # noqa: E402

PROMPTS = ["", "prove the", "hello ? a b c", "unknown words only", "write {1} " * 40, "é\ud800", *battle_texts(20)]


def config_of(folder: Path) -> Any:
    """Parsed strictly: a field that Triton does not know is an error."""
    return text_format.Parse((folder / "config.pbtxt").read_text(), model_config_pb2.ModelConfig())


def configs_of(repository: Path) -> dict[str, Any]:
    return {path.parent.name: config_of(path.parent) for path in sorted(repository.glob("*/config.pbtxt"))}


def saved(router: rf.Router, folder: Path) -> Path:
    router.save(folder)
    return folder


def check_warmup(folder: Path, config: Any) -> None:
    """Every sample names inputs of the model, and its file holds what the shape says."""
    sizes = {model_config_pb2.TYPE_FP32: 4, model_config_pb2.TYPE_INT64: 8}
    inputs = {entry.name: entry for entry in config.input}
    assert len(config.model_warmup) >= 1
    for sample in config.model_warmup:
        assert 1 <= sample.batch_size <= config.max_batch_size
        for name, value in sample.inputs.items():
            assert value.data_type == inputs[name].data_type
            content = (folder / "warmup" / value.input_data_file).read_bytes()
            if value.data_type == model_config_pb2.TYPE_STRING:
                assert int.from_bytes(content[:4], "little") == len(content) - 4
            else:
                assert len(content) == sizes[value.data_type] * math.prod(value.dims)


@pytest.mark.parametrize("mode", ["native", "python"])
def test_one_model_holds_the_router_and_says_all(tmp_path: Path, mode: str) -> None:
    router = mf_router()
    export = export_triton(
        saved(router, tmp_path / "router"), tmp_path / "out", mode=mode, name="mine", version=3, strong_model="big",
        default_threshold=0.25, max_batch_size=16, max_queue_delay_us=250, instances=2, response_cache=True,
        threads=3 if mode == "native" else None,
    )  # fmt: skip
    assert (export.mode, export.name, export.models, export.kind) == (mode, "mine", ("mine",), "mf")
    assert export.graph is None
    folder = tmp_path / "out" / "mine"
    config = config_of(folder)
    assert (config.name, config.backend) == ("mine", {"native": "routellm", "python": "python"}[mode])
    assert (config.max_batch_size, config.version_policy.latest.num_versions) == (16, 1)
    assert [(entry.name, list(entry.dims), entry.optional) for entry in config.input] == [
        ("PROMPT", [1], True), ("EMBEDDING", [9], True), ("THRESHOLD", [1], True),
    ]  # fmt: skip
    types = {entry.name: model_config_pb2.DataType.Name(entry.data_type) for entry in [*config.input, *config.output]}
    assert types == {
        "PROMPT": "TYPE_STRING", "EMBEDDING": "TYPE_FP32", "THRESHOLD": "TYPE_FP32", "WIN_RATE": "TYPE_FP32",
        "IS_STRONG": "TYPE_BOOL", "MODEL": "TYPE_STRING",
    }  # fmt: skip
    assert config.dynamic_batching.max_queue_delay_microseconds == 250
    assert list(config.dynamic_batching.preferred_batch_size) == [8]
    assert [(group.count, group.kind) for group in config.instance_group] == [(2, group_kind("KIND_CPU"))]
    assert config.response_cache.enable
    parameters = {key: value.string_value for key, value in config.parameters.items()}
    assert (parameters["strong_model"], parameters["weak_model"]) == ("big", PAIR.weak)
    assert float(parameters["default_threshold"]) == 0.25
    assert parameters.get("threads") == {"native": "3", "python": None}[mode]
    if mode == "native":
        # What its backend does not know it refuses; the calibration is for clients, and it passes that over.
        assert set(parameters) == {"strong_model", "weak_model", "default_threshold", "threads", "calibration_table"}
    check_warmup(folder, config)
    served = rf.load_router(folder / "3" / "router")
    np.testing.assert_array_equal(served.win_rates(PROMPTS), router.win_rates(PROMPTS))
    assert (folder / "3" / "model.py").exists() == (mode == "python")
    assert json.loads((tmp_path / "out" / "triton-export.json").read_text())["router_digest"] == export.router_digest


@pytest.mark.parametrize("mode", ["native", "python"])
def test_a_digest_is_checked_here_and_goes_to_the_server(tmp_path: Path, mode: str) -> None:
    digest = mf_router().save(tmp_path / "router")
    with pytest.raises(rf.ArtifactIntegrityError, match="the digest that was asked for"):
        export_triton(tmp_path / "router", tmp_path / "out", mode=mode, digest="sha256:" + "0" * 64)
    assert not (tmp_path / "out").exists()
    export_triton(tmp_path / "router", tmp_path / "out", mode=mode, digest=digest, strong_model="big")
    folder = tmp_path / "out" / "router"
    parameters = {key: entry.string_value for key, entry in config_of(folder).parameters.items()}
    # The router that was written: here, one whose strong model has another name.
    assert parameters["directory_digest"] != digest
    assert rf.load_router(folder / "1" / "router", digest=parameters["directory_digest"]).model_pair.weak == PAIR.weak
    if mode == "python":  # csrc/tests/triton has the same of the native backend
        settings = Settings(folder / "1", parameters)
        RouterModel().load(settings)
        (folder / "1" / "router" / "router.json").write_text("{}")
        with pytest.raises(rf.ArtifactIntegrityError, match="the digest that was asked for"):
            RouterModel().load(settings)
    export_triton(tmp_path / "router", tmp_path / "out", mode=mode)
    assert "directory_digest" not in config_of(folder).parameters


def group_kind(name: str) -> int:
    return int(model_config_pb2.ModelInstanceGroup.Kind.Value(name))


def test_a_client_reads_pair_calibration_and_sizes_from_the_configuration(tmp_path: Path) -> None:
    router = mf_router()
    export_triton(saved(router, tmp_path / "router"), tmp_path / "out")
    config = MessageToDict(config_of(tmp_path / "out" / "router"), preserving_proto_field_name=True)
    served = Served.of(config, "router")
    assert (served.model_pair, served.max_batch_size, served.dim, served.takes_prompts) == (PAIR, 64, 9, True)
    assert served.calibration is not None
    assert served.calibration.threshold_for(0.3) == router.threshold_for(0.3)


@pytest.mark.parametrize("mode", ["native", "python"])
def test_the_calibration_has_a_file_of_its_own_and_the_client_loses_no_bit_of_it(tmp_path: Path, mode: str) -> None:
    export_triton("mf", tmp_path / "out", mode=mode)
    expected = rf.load_router().calibration
    assert expected is not None
    folder = tmp_path / "out" / "router"
    assert max(map(len, (folder / "config.pbtxt").read_text().splitlines())) < 4000
    page = json.loads((folder / "calibration.json").read_text())
    assert page["prompt_count"] == expected.prompt_count
    assert tuple(map(tuple, page["table"])) == expected.table
    served = Served.of(MessageToDict(config_of(folder), preserving_proto_field_name=True), "router")
    assert served.calibration is not None
    assert served.calibration.table == expected.table


@pytest.mark.parametrize(
    "table",
    [
        ((0.0, 1.0), (0.5, 0.1), (1.0, 0.0)),
        ((0.0, 1.0), (1 / 3, math.pi / 4), (1.0, 5e-324)),  # no number of decimals holds these: stored as they are
        tuple((share / 7000, 1 - share / 9001) for share in range(7001)),
    ],
)
def test_every_table_is_read_as_it_was_written(table: Any) -> None:
    calibration = rf.Calibration("größe", 7, table)
    stored = triton_protocol.calibration_of({"calibration_table": triton_protocol.calibration_parameter(calibration)})
    assert stored == calibration


def test_a_repository_of_an_earlier_version_is_read() -> None:
    text = json.dumps({"dataset": "d", "prompt_count": 3, "table": [[0.0, 1.0], [0.5, 0.1234567], [1.0, 0.0]]})
    found = triton_protocol.calibration_of({"calibration": text})
    assert found == rf.Calibration("d", 3, ((0.0, 1.0), (0.5, 0.1234567), (1.0, 0.0)))
    assert triton_protocol.calibration_of({}) is None


@pytest.mark.parametrize("table", ["%", "AAAA", "eJyLjgUAARUAuQ==", "eJyLNtAx0DGK1Yk21DHQMYyNBQAhpgPB"])
def test_a_damaged_table_is_named(table: str) -> None:
    text = json.dumps({"dataset": "d", "prompt_count": 3, "table": table})
    with pytest.raises(ValueError, match="calibration"):
        triton_protocol.calibration_of({"calibration_table": text})


def test_inputs_that_a_router_does_not_take_are_not_offered(tmp_path: Path) -> None:
    weights = {**mf_weights(dim=9), "model_names": (*PAIR, "other"), "model_pair": PAIR, "embedder": None}
    only_vectors = export_triton(
        saved(MatrixFactorizationRouter(**weights), tmp_path / "a"), tmp_path / "out-a", default_threshold=0.5
    )
    assert only_vectors.inputs == ("EMBEDDING", "THRESHOLD")
    assert not config_of(tmp_path / "out-a" / "router").input[0].optional
    only_text = export_triton(saved(RandomRouter(PAIR, seed=1), tmp_path / "b"), tmp_path / "out-b")
    assert only_text.inputs == ("PROMPT", "THRESHOLD")


ROUTERS = {
    "mf": mf_router,
    "mf with text features": lambda: mf_router(static_embedder(surface_features=("constant", "question_marks"))),
    "sw_ranking": lambda: sw_router(embedder=static_embedder(surface_features=())),
    "bert": bert_router,
}


@pytest.mark.parametrize("inputs", ["tokens", "embeddings"])
@pytest.mark.parametrize("kind", list(ROUTERS))
def test_an_ensemble_fits_together_and_its_graph_runs(tmp_path: Path, kind: str, inputs: str) -> None:
    router = ROUTERS[kind]()
    directory = saved(router, tmp_path / "router")
    if kind == "bert" and inputs == "embeddings":
        with pytest.raises(UnsupportedExportError, match="reads text"):
            export_triton(directory, tmp_path / "out", mode="onnx", inputs=inputs, default_threshold=0.5)
        assert not (tmp_path / "out").exists()
        return
    export = export_triton(
        directory, tmp_path / "out", mode="onnx", inputs=inputs, threads=2, instances=3, default_threshold=0.5
    )
    assert export.models == ("router", "router_tokenize", "router_graph", "router_decide")
    assert export.graph is not None
    configs = configs_of(tmp_path / "out")
    assert set(configs) == set(export.models)
    ensemble = configs["router"]
    assert (ensemble.platform, ensemble.backend) == ("ensemble", "")
    check_data_flow(configs, ensemble)
    graph = configs["router_graph"]
    assert (graph.platform, graph.backend) == ("onnxruntime_onnx", "onnxruntime")
    threads = {key: value.string_value for key, value in graph.parameters.items()}
    assert threads == {"intra_op_thread_count": "2", "inter_op_thread_count": "1", "execution_mode": "0"}
    assert graph.instance_group[0].count == 3
    for name in export.models[1:]:
        check_warmup(tmp_path / "out" / name, configs[name])
    # The graph has the inputs and outputs that its configuration says, and runs on what the first step makes.
    session = onnxruntime.InferenceSession(
        str(tmp_path / "out" / "router_graph" / "1" / "model.onnx"), providers=["CPUExecutionProvider"]
    )
    types = {"tensor(int64)": model_config_pb2.TYPE_INT64, "tensor(float)": model_config_pb2.TYPE_FP32}
    found = {entry.name: (types[entry.type], len(entry.shape)) for entry in session.get_inputs()}
    assert found == {entry.name: (entry.data_type, 1 + len(entry.dims)) for entry in graph.input}
    assert [entry.name for entry in session.get_outputs()] == ["win_rate"]
    assert graph.output[0].HasField("reshape")
    preparation = Preparation(tmp_path / "out" / "router_tokenize" / "1" / "preparation")
    texts = [prompt for prompt in PROMPTS if kind != "sw_ranking" or "unknown" not in prompt]
    win_rates = session.run(["win_rate"], preparation.feeds(texts))[0]
    np.testing.assert_allclose(win_rates, router.win_rates(texts), rtol=0, atol=1e-5)


@pytest.mark.parametrize("device", ["cuda", "gpu"])  # the second is an old name of the first
def test_on_a_gpu_the_graph_has_few_lengths(tmp_path: Path, device: str) -> None:
    export_triton(saved(mf_router(), tmp_path / "router"), tmp_path / "out", mode="onnx", device=device)
    kinds = {
        name: [group.kind for group in config.instance_group] for name, config in configs_of(tmp_path / "out").items()
    }
    cpu, gpu = group_kind("KIND_CPU"), group_kind("KIND_GPU")
    assert kinds == {"router": [], "router_tokenize": [cpu], "router_graph": [gpu], "router_decide": [cpu]}
    lengths = json.loads((tmp_path / "out/router_tokenize/1/preparation/preparation.json").read_text())["lengths"]
    assert lengths == [16, 32, 64, 128, 256, 512]


def test_a_router_is_read_once_made_a_graph_once_and_its_new_names_reach_the_graph(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = saved(bert_router(), tmp_path / "router")
    made = []
    make = BertRouter.onnx_graph
    monkeypatch.setattr(BertRouter, "onnx_graph", lambda router: made.append(router) or make(router))
    with counted_opens(directory) as opened:
        export = export_triton(
            directory,
            tmp_path / "out",
            mode="onnx",
            strong_model="big",
            weak_model="small",
            prompts=PROMPTS,
            default_threshold=0.5,
        )
    assert opened == {"router.json": 1, "model.onnx": 1, "tokenizer.json": 1}
    assert len(made) == 1
    model = onnx.load(tmp_path / "out" / "router_graph" / "1" / "model.onnx", load_external_data=False)
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    assert metadata["routellm_fast.strong_model"] == "big"
    assert metadata["routellm_fast.weak_model"] == "small"
    assert metadata["routellm_fast.router_digest"] == export.router_digest == router_digest(directory)


@pytest.mark.parametrize("mode", ["native", "python", "onnx"])
def test_a_directory_is_read_once_in_every_mode(tmp_path: Path, mode: str) -> None:
    directory = saved(mf_router(), tmp_path / "router")
    with counted_opens(directory) as opened:
        export_triton(directory, tmp_path / "out", mode=mode, strong_share=0.5)
    assert opened == {"router.json": 1, "weights.safetensors": 1, "tokenizer.json": 1, "README.md": 1}
    parameters = config_of(tmp_path / "out" / "router").parameters
    assert float(parameters["default_threshold"].string_value) == 0.4


def test_requests_without_a_threshold_get_the_calibrated_one_of_half_the_prompts(tmp_path: Path) -> None:
    export_triton(saved(mf_router(), tmp_path / "router"), tmp_path / "out")
    assert float(config_of(tmp_path / "out" / "router").parameters["default_threshold"].string_value) == 0.4
    bare = saved(mf_router(calibration=None), tmp_path / "bare")
    with pytest.raises(InvalidArgumentError, match=r"no calibration.*give default_threshold"):
        export_triton(bare, tmp_path / "out-bare")
    assert not (tmp_path / "out-bare").exists()


USELESS = {
    "native": ("inputs", "precision", "prompts", "bound", "device", "runtime", "cache"),
    "python": ("inputs", "precision", "prompts", "bound", "device", "runtime", "cache"),
    "onnx": ("runtime", "cache"),
    "tensorrt": ("threads", "device"),
}
# What each option is where nothing is given: to say it is refused too, since saying it has no effect either.
USUAL = {
    "inputs": "auto", "precision": "float32", "prompts": "prompts.txt", "bound": 0.1, "device": "cpu",
    "runtime": "tensorrt", "cache": "cache", "threads": 1,
}  # fmt: skip


@pytest.mark.parametrize(
    ("mode", "option"), [(mode, option) for mode, options in USELESS.items() for option in options]
)
def test_an_option_that_the_mode_has_no_use_for_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], mode: str, option: str
) -> None:
    (tmp_path / "prompts.txt").write_text("hello\n")
    value = PROMPTS if option == "prompts" else USUAL[option]
    words = f"mode {mode} takes no {option}, found it given: {option} is for mode "
    with pytest.raises(InvalidArgumentError, match=words) as caught:
        export_triton("mf", tmp_path / "out", mode=mode, **{option: value})
    takers = str(caught.value).rpartition("for mode ")[2].split(" or ")
    assert set(takers) == {taker for taker in USELESS if option not in USELESS[taker]}
    given = str(tmp_path / "prompts.txt") if option == "prompts" else str(value)
    assert cli.main(["export", "triton", "mf", str(tmp_path / "out"), "--mode", mode, f"--{option}", given]) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_threads_are_refused_where_the_router_has_none(tmp_path: Path) -> None:
    directory = saved(mf_router(), tmp_path / "router")
    with pytest.raises(InvalidArgumentError, match="kind mf has no threads of its own in mode python"):
        export_triton(directory, tmp_path / "out", threads=2)
    export_triton(saved(bert_router(), tmp_path / "bert"), tmp_path / "out", threads=2, default_threshold=0.5)
    assert config_of(tmp_path / "out" / "router").parameters["threads"].string_value == "2"
    with pytest.raises(InvalidArgumentError, match="not both"):
        export_triton(directory, tmp_path / "out", default_threshold=0.5, strong_share=0.5)


def check_data_flow(configs: dict[str, Any], ensemble: Any) -> None:
    """Every tensor that a step takes was given before it, with the same type and dims."""
    known = {entry.name: (entry.data_type, tuple(entry.dims)) for entry in ensemble.input}
    for step in ensemble.ensemble_scheduling.step:
        model = configs[step.model_name]
        inputs = {entry.name: (entry.data_type, tuple(entry.dims)) for entry in model.input}
        assert set(step.input_map) == set(inputs)
        for name, source in step.input_map.items():
            assert known[source] == inputs[name]
        outputs = {entry.name: (entry.data_type, tuple(entry.dims)) for entry in model.output}
        assert set(step.output_map) == set(outputs)
        known |= {target: outputs[name] for name, target in step.output_map.items()}
    assert {entry.name: (entry.data_type, tuple(entry.dims)) for entry in ensemble.output}.items() <= known.items()


@pytest.mark.parametrize("kind", ["mf", "mf with text features", "bert"])
def test_prompts_are_padded_to_few_lengths_and_say_the_same(tmp_path: Path, kind: str) -> None:
    router = ROUTERS[kind]()
    export_triton(saved(router, tmp_path / "router"), tmp_path / "out", mode="onnx", default_threshold=0.5)
    preparation = Preparation(tmp_path / "out" / "router_tokenize" / "1" / "preparation")
    native = exportable(router)
    longest = longest_of(native)
    for prompt in PROMPTS:
        found, expected = preparation.feeds([prompt]), native.feeds([prompt])
        assert set(found) == set(expected)
        length = found["input_ids"].shape[1]
        assert length % 16 == 0 or length == longest
        used = int(expected["attention_mask"].sum())
        assert int(found["attention_mask"].sum()) == used
        np.testing.assert_array_equal(found["input_ids"][:, :used], expected["input_ids"][:, :used])


def test_causal_llm_is_read_without_its_model(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    pytest.importorskip("onnxscript")
    from routellm_fast.routers import CausalLLMRouter
    from tests.support.causal_builders import checkpoint

    router = CausalLLMRouter.from_pretrained(
        checkpoint(tmp_path / "model", score_tokens=True), device="cpu", max_tokens=200
    )
    export_triton(saved(router, tmp_path / "router"), tmp_path / "out", mode="onnx", default_threshold=0.5)
    folder = tmp_path / "out" / "router_tokenize" / "1"
    assert not list(folder.rglob("*.safetensors"))
    feeds = Preparation(folder / "preparation").feeds(PROMPTS)
    for row, mask, expected in zip(feeds["input_ids"], feeds["attention_mask"], router.rows(PROMPTS), strict=True):
        assert row[mask == 1].tolist() == expected
        assert mask[-1] == 1
    session = onnxruntime.InferenceSession(
        str(tmp_path / "out" / "router_graph" / "1" / "model.onnx"), providers=["CPUExecutionProvider"]
    )
    np.testing.assert_allclose(session.run(["win_rate"], feeds)[0], router.win_rates(PROMPTS), rtol=0, atol=1e-4)


def test_a_plan_is_served_by_tensorrt_on_a_gpu(tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx")
    directory = saved(mf_router(), tmp_path / "router")
    export = export_triton(directory, tmp_path / "out", mode="tensorrt", runtime="tensorrt_rtx", max_batch_size=4)
    configs = configs_of(tmp_path / "out")
    check_data_flow(configs, configs["router"])
    graph = configs["router_graph"]
    assert (graph.platform, graph.backend) == ("tensorrt_plan", "tensorrt")
    assert graph.instance_group[0].kind == group_kind("KIND_GPU")
    plan = tmp_path / "out" / "router_graph" / "1" / "model.plan"
    manifest = json.loads((plan.parent / "engine.json").read_text())
    assert plan.stat().st_size == manifest["plan_bytes"]
    # Whatever the first step makes fits the plan's profile.
    lengths = json.loads((tmp_path / "out/router_tokenize/1/preparation/preparation.json").read_text())["lengths"]
    least, _, most = manifest["profiles"]["input_ids"]
    assert least == [1, 1]
    assert most == [4, lengths[-1]]
    assert export.graph is not None
    with pytest.raises(InvalidArgumentError, match="mode tensorrt takes no threads"):
        export_triton(directory, tmp_path / "out", mode="tensorrt", threads=2)


def test_an_export_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    directory, out = saved(mf_router(), tmp_path / "router"), tmp_path / "out"
    export_triton(directory, out)
    before = sorted(path.relative_to(out) for path in out.rglob("*"))
    with pytest.raises(UnsupportedExportError):
        export_triton(saved(bert_router(), tmp_path / "bert"), out, mode="native", default_threshold=0.5)
    assert sorted(path.relative_to(out) for path in out.rglob("*")) == before
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
    export_triton(directory, out, mode="onnx", name="other")
    assert sorted(path.name for path in out.iterdir()) == [
        "other", "other_decide", "other_graph", "other_tokenize", "triton-export.json",
    ]  # fmt: skip
    (out / "somebody-elses" / "1").mkdir(parents=True)
    (out / "somebody-elses" / "1" / "model.onnx").write_bytes(b"theirs")
    (out / "other" / "2").mkdir()
    (out / "other" / "2" / "model.py").write_bytes(b"theirs")
    export_triton(directory, out)
    assert sorted(path.name for path in out.iterdir()) == ["other", "router", "somebody-elses", "triton-export.json"]
    assert [path.relative_to(out).as_posix() for path in sorted(out.glob("other/**/*"))] == [
        "other/2",
        "other/2/model.py",
    ]
    assert (out / "somebody-elses" / "1" / "model.onnx").read_bytes() == b"theirs"
    with pytest.raises(ArtifactWriteError, match="is no export"):
        export_triton(directory, tmp_path / "router")
    with pytest.raises(ArtifactError):
        export_triton(tmp_path / "nowhere", out)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"mode": "onx"}, InvalidArgumentError, "mode is one of"),
        ({"device": "tpu"}, InvalidArgumentError, "device is one of"),
        ({"default_threshold": 1.5}, InvalidThresholdError, "outside"),
        ({"default_threshold": float("nan")}, InvalidThresholdError, "outside"),
        ({"max_batch_size": 0}, InvalidArgumentError, "max_batch_size"),
        ({"max_queue_delay_us": -1}, InvalidArgumentError, "max_queue_delay_us"),
        ({"instances": 1.5}, InvalidArgumentError, "instances"),
        ({"threads": -1}, InvalidArgumentError, "threads"),
        ({"version": 0}, InvalidArgumentError, "version"),
        ({"name": "../up"}, InvalidArgumentError, "name"),
        ({"name": ".hidden"}, InvalidArgumentError, "name"),
        ({"preferred_batch_sizes": (0,)}, InvalidArgumentError, "preferred_batch_sizes"),
    ],
)
def test_arguments_are_checked_first(
    tmp_path: Path, arguments: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        export_triton("mf", tmp_path / "out", **arguments)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_extra_names_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "tritonclient.grpc", None)
    with pytest.raises(MissingExtraError, match=r"pip install .\.\[triton\]"):
        export_triton("mf", tmp_path / "out")


@pytest.mark.parametrize("threshold", [0.0, 0.1, 0.3, 0.7, 1 / 3, 1.0, 0.1 + 1e-12])
def test_thresholds_decide_alike_in_float32(threshold: float) -> None:
    narrow = float32_threshold(threshold)
    near = [np.nextafter(narrow, np.float32(0)), narrow, np.nextafter(narrow, np.float32(1))]
    assert [win_rate >= narrow for win_rate in near] == [float(win_rate) >= threshold for win_rate in near]


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    router = saved(mf_router(), tmp_path / "router")
    out = tmp_path / "out"
    assert cli.main(["export", "triton", str(router), str(out), "--mode", "native", "--strong-share", "0.5"]) == 0
    assert "ask router for PROMPT, EMBEDDING, THRESHOLD" in capsys.readouterr().out
    assert float(config_of(out / "router").parameters["default_threshold"].string_value) == 0.4
    assert cli.main(["export", "triton", str(router), str(out), "--mode", "onnx"]) == 2
    assert f"{out} exists already" in capsys.readouterr().err
    assert cli.main(["export", "triton", str(router), str(out), "--mode", "onnx", "--json", "--force"]) == 0
    assert json.loads(capsys.readouterr().out)["graph"]["kind"] == "mf"
    assert_refused(run_cli("export", "triton", str(router), str(tmp_path / "new"), "--mode", "nativ"), "native, python")


def test_a_configuration_of_another_model_is_named() -> None:
    from routellm_fast.errors import TritonAnswerError

    for config in ({}, {"input": [{"name": "x", "dims": [1]}], "output": []}, {"input": 3}, {"parameters": []}):
        with pytest.raises(TritonAnswerError, match="is no router"):
            Served.of(config, "m")
