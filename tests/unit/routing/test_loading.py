from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

import routellm_fast as rf
from routellm_fast.data.names import known_aliases
from routellm_fast.routers.routellm_checkpoint import ROUTELLM_MODELS
from routellm_fast.routing import FunctionRouter, RouterName, load_routers, open_router, read_config
from routellm_fast.serving.triton import TritonRouter
from tests.support.builders import PAIR, bert_router, mf_router
from tests.support.fake_openai import FakeOpenAI
from tests.support.fake_triton import fake_triton

OURS = rf.ModelPair("ours", "theirs")
DIM = 8


def checkpoint(folder: Path, dim: int = DIM) -> Path:
    """A checkpoint as RouteLLM's MFModel.save_pretrained writes it."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(5)
    shapes = {"P.weight": (64, 16), "text_proj.0.weight": (16, dim), "classifier.0.weight": (1, 16)}
    save_file({name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()},
              folder / "model.safetensors")  # fmt: skip
    config = {"dim": 16, "num_models": 64, "text_dim": dim, "num_classes": 1, "use_proj": True}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_what_ships_is_opened_by_its_name() -> None:
    told: list[str] = []
    routers = load_routers(["mf", "sw_ranking", "random"], model_pair=OURS, on_router=told.append)
    assert told == list(routers.names)
    assert [router.kind for router in routers.values()] == ["mf", "sw_ranking", "random"]
    assert {router.model_pair for router in routers.values()} == {OURS}
    shipped = rf.load_router().route("Prove it.", 0.4)
    assert routers.decide("Prove it.", RouterName("mf", 0.4)).win_rate == shipped.win_rate


def test_names_lead_to_directories_servers_and_routers(tmp_path: Path) -> None:
    mf_router().save(tmp_path / "saved")
    own = FunctionRouter(lambda prompt: 0.5)
    saved = tmp_path / "saved"
    with fake_triton("http") as triton:
        routers = load_routers({"a": saved, "b": str(saved), "c": f"triton+{triton.url}", "d": own, "e": "random"})
        decision = routers.decide("a", RouterName("c", None))
        routers.close()
    assert [router.kind for router in routers.values()] == ["mf", "mf", "triton", "function", "random"]
    assert decision.win_rate == 0.25
    assert routers["d"] is own
    with pytest.raises(rf.TritonClosedError):
        routers.decide("a", RouterName("c", 0.5))


def test_a_server_may_have_replicas_and_its_router_a_name() -> None:
    with fake_triton("http") as triton:
        router = open_router(f"{triton.url}, {triton.url}", triton_model="other")
        assert isinstance(router, TritonRouter)
        with router:
            assert router.route("a", 0.5).win_rate == 0.25
        assert any("/other/" in path for path in triton.paths)


def test_a_router_for_routellm_is_taken_as_it_is() -> None:
    class Mine:
        def calculate_strong_win_rate(self, prompt: str) -> float:
            return 0.8 if "prove" in prompt else 0.1

    routers = load_routers({"mine": Mine()}, model_pair=OURS)
    assert [routers.decide(text, RouterName("mine", 0.5)).model for text in ("prove it", "hello")] == list(OURS)


def test_a_random_router_may_be_a_directory_that_has_that_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mf_router().save(tmp_path / "random")
    monkeypatch.chdir(tmp_path)
    assert open_router("random").kind == "mf"


# --- RouteLLM's configuration


def test_a_checkpoint_path_may_be_a_directory_of_ours(tmp_path: Path) -> None:
    digest = mf_router().save(tmp_path / "saved")
    config = {"mf": {"checkpoint_path": str(tmp_path / "saved"), "digest": digest}, "bert": {"checkpoint_path": "x"}}
    routers = load_routers(["mf", "sw_ranking"], config=config, model_pair=OURS)
    assert routers.decide("prove", RouterName("mf", 0.3)) == mf_router().route("prove", 0.3)._replace(
        model=routers["mf"].route("prove", 0.3).model
    )
    assert routers["mf"].model_pair == OURS
    assert routers["sw_ranking"].kind == "sw_ranking"  # no entry: what ships
    with pytest.raises(rf.ArtifactIntegrityError):
        load_routers(["mf"], config={"mf": {"checkpoint_path": str(tmp_path / "saved"), "digest": "0" * 64}})


def test_a_checkpoint_of_routellm_is_read_and_its_embedder_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_server_settings: None
) -> None:
    checkpoint(tmp_path / "mf", dim=1536)
    with FakeOpenAI(1536) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        monkeypatch.setenv("OPENAI_API_KEY", "sk-of-the-tests")
        settings = {"checkpoint_path": str(tmp_path / "mf"), "hidden_size": 16, "num_models": 64, "use_proj": True}
        for source in (settings, str(tmp_path / "mf")):
            routers = load_routers({"mf": source}, model_pair=OURS)
            assert server.requests == []
            decision = routers.decide("prove", RouterName("mf", 0.5))
            direct = rf.routers.MatrixFactorizationRouter.from_routellm(
                tmp_path / "mf", embedder=rf.OpenAIEmbedder(base_url=server.url)
            )
            assert decision.win_rate == direct.win_rate("prove")
            assert routers["mf"].model_pair == OURS
            assert server.requests[0].body["model"] == "text-embedding-3-small"
            server.requests.clear()
        other = {**settings, "strong_model": "gpt-4-0613", "weak_model": "vicuna-7b"}
        rate = load_routers({"mf": other}).decide("prove", RouterName("mf", 0.5)).win_rate
        assert rate == direct.for_pair("gpt-4-0613", "vicuna-7b").win_rate("prove")


def test_a_checkpoint_may_be_a_repository_of_the_hub(tmp_path: Path) -> None:
    # The hub's own cache on disk, as a download leaves it; the program cannot reach the hub itself.
    repository = tmp_path / "hub" / "models--routellm--mf_gpt4_augmented"
    checkpoint(repository / "snapshots" / ("0" * 40), dim=1536)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0" * 40)
    program = """
from routellm_fast.routing import load_routers
print(load_routers({"mf": {"checkpoint_path": "routellm/mf_gpt4_augmented"}})["mf"].weights["P"].shape)
try:
    load_routers({"mf": {"checkpoint_path": "routellm/none"}})
except Exception as error:
    print(type(error).__name__, error)
"""
    environment = {"HF_HUB_CACHE": str(tmp_path / "hub"), "HF_HUB_OFFLINE": "1", "PATH": "/usr/bin:/bin"}
    found = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    shape, error = found.stdout.strip().split("\n")
    assert shape == "(64, 16)"
    assert error.startswith("ArtifactNotFoundError routellm/none is no folder here, and the hub did not give it")
    assert error.endswith("(hf download routellm/none --local-dir FOLDER) and give the folder")


def test_battles_and_their_embeddings_make_a_router(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_server_settings: None
) -> None:
    rng = random.Random(1)
    models, rows = ROUTELLM_MODELS[20:40], []
    for number in range(300):
        a, b = rng.sample(models, 2)
        won = rng.random() < (0.8 if models.index(a) < models.index(b) else 0.2)
        prompt = json.dumps([f"A prompt that is long enough, number {number}"])
        rows.append({"model_a": a, "model_b": b, "prompt": prompt, "winner_model_a": int(won),
                     "winner_model_b": int(not won), "winner_tie": 0})  # fmt: skip
    halves = (rows[:150], rows[150:])
    for number, half in enumerate(halves):
        (tmp_path / f"battles{number}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in half))
        np.save(tmp_path / f"vectors{number}.npy", np.random.default_rng(number).normal(size=(150, 1536)))
    settings: dict[str, Any] = {
        "arena_battle_datasets": [str(tmp_path / f"battles{number}.jsonl") for number in range(2)],
        "arena_embedding_datasets": [str(tmp_path / f"vectors{number}.npy") for number in range(2)],
        "num_tiers": 3,
    }
    with FakeOpenAI(1536) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        router: Any = load_routers({"sw_ranking": settings}, model_pair=OURS)["sw_ranking"]
        assert 0.0 < router.route("prove", 0.5).win_rate < 1.0
    assert router.battle_count == 300
    assert router.num_tiers == 3
    assert router.solver == "routellm"
    assert router.scoring_pair == ("gpt-4-1106-preview", known_aliases()["mixtral-8x7b-instruct-v0.1"])
    assert router.model_pair == OURS


def test_a_bert_directory_is_opened_by_any_name(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    bert_router().save(tmp_path / "saved")
    config = {"bert": {"checkpoint_path": str(tmp_path / "saved")},
              "ours": {"kind": "bert", "checkpoint_path": str(tmp_path / "saved")}}  # fmt: skip
    routers = load_routers(["bert", "ours"], config=config)
    assert [router.kind for router in routers.values()] == ["bert", "bert"]


@pytest.mark.parametrize(
    ("name", "settings", "text"),
    [
        ("bert", {}, "no router of kind bert ships with this package: give the checkpoint_path"),
        ("mine", {"checkpoint_path": "x"}, "router 'mine' is of no known kind: name it mf, sw_ranking"),
        ("mf", {"checkpoint": "x"}, "a router of kind mf has no setting checkpoint; its settings are allow_server"),
        ("random", {"checkpoint_path": "x"}, "has no setting checkpoint_path; its settings are none"),
        ("mf", {"checkpoint_path": 3}, "checkpoint_path is a folder, or a repository of the hub, found int"),
        ("mf", {"checkpoint_path": "{saved}", "num_models": 64}, "which holds its own num_models: leave them out"),
        ("sw_ranking", {"checkpoint_path": "{saved}"}, "holds a router of kind mf, where sw_ranking was expected"),
        ("mf", {"checkpoint_path": "{checkpoint}", "num_models": 3}, "num_models is 3, but of .* it is 64: leave it"),
        ("mf", {"checkpoint_path": "{checkpoint}", "digest": "x"}, "digest and allow_server are for router"),
        ("sw_ranking", {"checkpoint_path": "{checkpoint}"}, "is no router directory: make one of the battles"),
        ("sw_ranking", {"arena_battle_datasets": ["x"], "checkpoint_path": "x"}, "not both"),
        ("sw_ranking", {"arena_battle_datasets": "x"}, "arena_battle_datasets is a list of texts, found 'x'"),
        ("bert", {"checkpoint_path": "{checkpoint}", "num_labels": 2}, "num_labels is 2, but of .* it is 3"),
        ("causal_llm", {"checkpoint_path": "{checkpoint}", "flash_attention_2": True}, "flash_attention_2 is True"),
        ("mf", {"checkpoint_path": "/no/such/folder"}, "/no/such/folder is neither a folder nor the name of a repo"),
    ],
)
def test_wrong_settings_are_refused(tmp_path: Path, name: str, settings: dict[str, Any], text: str) -> None:
    places = {"{saved}": str(tmp_path / "saved"), "{checkpoint}": str(tmp_path / "checkpoint")}
    mf_router().save(tmp_path / "saved")
    checkpoint(tmp_path / "checkpoint", dim=1536)
    given = {key: places.get(value, value) if isinstance(value, str) else value for key, value in settings.items()}
    with pytest.raises((rf.InvalidArgumentError, rf.ArtifactNotFoundError), match=text):
        load_routers({name: given})


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("bert", "no router of kind bert ships with this package, only mf and sw_ranking and random do"),
        ("nowhere", "nowhere is no router: expected one that ships"),
        ("no\x1bwhere", r"no\\x1bwhere is no router"),
    ],
)
def test_a_name_that_leads_nowhere_says_what_could_be_given(source: str, text: str) -> None:
    with pytest.raises(rf.InvalidArgumentError, match=text):
        load_routers([source])


def test_what_fits_no_source_is_refused() -> None:
    with pytest.raises(rf.InvalidArgumentError, match="digest and allow_server are for router directories"):
        open_router("grpc://127.0.0.1:1", digest="0" * 64)
    with pytest.raises(TypeError, match="found str"):
        load_routers("mf")
    with pytest.raises(rf.InvalidArgumentError, match="by name alone"):
        load_routers({"mf": "mf"}, config={})


def test_a_configuration_is_read_from_yaml(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("mf:\n  checkpoint_path: a\nrandom:\nbert: b\n")
    assert read_config(path) == {"mf": {"checkpoint_path": "a"}, "random": None, "bert": "b"}
    for content, text in (("mf: [1]", "mf: expected the router's settings, or its directory, found list"),
                          ("- mf", "found list"), ("", "found nothing"), ("a: b: c", "is no YAML")):  # fmt: skip
        path.write_text(content)
        with pytest.raises(rf.DataError, match=text):
            read_config(path)
    with pytest.raises(rf.DataError, match="cannot be read"):
        read_config(tmp_path / "none.yaml")


def test_models_keep_their_names_where_none_are_given() -> None:
    assert load_routers({"mf": mf_router()})["mf"].model_pair == PAIR
    assert load_routers(["random"])["random"].model_pair == ("strong", "weak")
