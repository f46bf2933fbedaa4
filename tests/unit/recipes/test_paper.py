"""`python -m recipes.paper`, from first to last, on made-up data of the layout that the originals have."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from recipes.paper import hub, page
from recipes.paper.command import main
from recipes.paper.published import TABLES
from recipes.paper.routers import Stored, made, rows
from recipes.paper.vectors import BENCHMARKS_COST, MODEL, Cost
from routellm_fast.errors import DataError
from routellm_fast.evaluation.datasets import BENCHMARKS, PAPER_PAIR, read_benchmarks
from routellm_fast.routers.routellm_checkpoint import ROUTELLM_MODELS
from tests.support.causal_builders import checkpoint as causal_checkpoint
from tests.support.fake_openai import FakeOpenAI, vectors_for
from tests.support.transformer_builders import classifier_folder

pyarrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")
pytest.importorskip("torch")
pytest.importorskip("openai")

REPOSITORY = Path(__file__).resolve().parents[3]
DIM = 1536
STRONG, WEAK = "gpt-4-1106-preview", "mixtral-8x7b-instruct-v0.1"
# Twelve models from the best to the worst; ten tiers need as many.
LADDER = [STRONG, "gpt-4-0314", "claude-1", "claude-2.0", "gpt-3.5-turbo-0613", WEAK, "vicuna-33b", "koala-13b",
          "alpaca-13b", "chatglm-6b", "dolly-v2-12b", "llama-13b"]  # fmt: skip
COLUMNS = ["id", "model_a", "model_b", "prompt", "response_a", "response_b", "winner_model_a", "winner_model_b",
           "winner_tie"]  # fmt: skip
TOPICS = ["prove that the sum of", "write a poem about", "translate this into French,", "hello, and how is"]
# A prompt of gsm8k below, which must not be trained on.
TAINTED = "solve exercise 3 of this book, please"
# RouteLLM takes the first turn alone, which has no text here.
SECOND_TURN = "what did I want to ask about these numbers"


def prompt(number: int) -> str:
    return f"{TOPICS[number % 4]} number {number}" + ' and the next, "quoted"\n' * (number % 5)


def battle(number: int, model_a: str, model_b: str, text: str, rng: np.random.Generator) -> list[object]:
    lead = 0.5 * (LADDER.index(model_b) - LADDER.index(model_a)) + (0.8 if number % 4 == 0 else -0.2)
    outcome = rng.choice(3, p=np.array([1.0, np.exp(-lead), 0.4]) / (1.4 + np.exp(-lead)))
    return [number, model_a, model_b, text, '["…"]', '["…"]', *(int(outcome == k) for k in range(3))]


def arena(count: int = 700) -> list[list[object]]:
    rng = np.random.default_rng(0)
    found = []
    for number in range(count):
        a, b = rng.choice(LADDER, size=2, replace=False)
        turns = [f"  {prompt(number)}", "and then?"] if number % 9 else ["too short"]
        found.append(battle(number, str(a), str(b), json.dumps(turns), rng))
    found.append(battle(count, STRONG, WEAK, json.dumps(["", SECOND_TURN]), rng))
    found.append(battle(count, STRONG, WEAK, json.dumps([""]), rng))
    found.append(battle(count + 1, STRONG, WEAK, json.dumps([TAINTED]), rng))
    return found


def of_pair(first: int, count: int, *, as_turns: bool) -> list[list[object]]:
    rng = np.random.default_rng(first)
    texts = [prompt(number) for number in range(first, first + count)]
    return [
        battle(first + row, STRONG, WEAK, json.dumps([text]) if as_turns else text, rng)
        for row, text in enumerate(texts)
    ]


def write_parquet(path: Path, battles: Sequence[Sequence[object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pyarrow.table(dict(zip(COLUMNS, map(list, zip(*battles, strict=True)), strict=True))), path)


def first_turns(battles: Sequence[Sequence[object]]) -> list[str]:
    """RouteLLM's own rule, restated: the first turn, and only where it has 16 characters."""
    texts = [str(row[3]) for row in battles]
    turns = [(json.loads(text)[0] if text.startswith("[") else text).strip() for text in texts]
    return [turn for turn in turns if len(turn) >= 16]


def write_vectors(folder: Path, texts: Sequence[str]) -> None:
    (folder / "data").mkdir(parents=True)
    table = pyarrow.table({"embeddings": vectors_for(texts, DIM).astype(np.float64).tolist()})
    parquet.write_table(table, folder / "data" / "train-00000-of-00001.parquet")


def write_checkpoint(folder: Path, seed: int) -> None:
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    shapes = {
        "P.weight": (len(ROUTELLM_MODELS), 128),
        "text_proj.0.weight": (128, DIM),
        "classifier.0.weight": (1, 128),
    }
    save_file(
        {name: (rng.normal(size=shape) / 40).astype(np.float32) for name, shape in shapes.items()},
        folder / "model.safetensors",
    )


def write_evals(folder: Path, count: int = 40) -> list[str]:
    """The layout of routellm/evals. Return its prompts."""
    rng = np.random.default_rng(5)
    strong, weak = PAPER_PAIR.strong, PAPER_PAIR.weak
    for name in BENCHMARKS:
        (folder / name).mkdir(parents=True)
        (folder / name / "contaminated_prompts.jsonl").write_text('{"eval_prompt": "none of these"}\n')
    (folder / "mmlu" / "responses").mkdir()
    right = [(bool(a), bool(b)) for a, b in zip(rng.random(3 * count) < 0.8, rng.random(3 * count) < 0.5, strict=True)]
    for part, (place, header, tail) in enumerate(
        (("mmlu/responses/mmlu_law.csv", ["prompt", weak, strong], []),
         ("gsm8k/gsm8k_responses.csv", ["prompt", weak, strong, f"{weak}_response", f"{strong}_response"], ["…", "…"]))
    ):  # fmt: skip
        with (folder / place).open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(header)
            for number, (a, b) in enumerate(right[part * count : (part + 1) * count]):
                word = ("choose the letter of answer", "solve exercise")[part]
                writer.writerow([f"{word} {number} of this book, please", b, a, *tail])
    questions, scores = [], []
    for number, (a, b) in enumerate(right[2 * count :]):
        questions.append({"question_id": number, "category": "math", "turns": [f"discuss matter {number}", "why"]})
        scores += [
            {"question_id": number, "model": model, "turn": turn, "score": 5 + 4 * is_right}
            for model, is_right in ((strong, a), (weak, b))
            for turn in (1, 2)
        ]
    for name, records in (("question", questions), ("judgements", scores)):
        (folder / "mt_bench" / f"{name}.jsonl").write_text("".join(f"{json.dumps(record)}\n" for record in records))
    return [prompt for benchmark in read_benchmarks(folder) for prompt in benchmark.prompts]


class World:
    """A folder in place of the hub, a checkout of RouteLLM, and where results go."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.data, self.work, self.out = folder, folder / "hub", folder / "work", folder / "results"
        self.benchmarks = folder / "RouteLLM"
        self.prompts = write_evals(self.benchmarks / "routellm" / "evals")
        battles = {
            hub.ARENA: arena(),
            hub.JUDGE: of_pair(2000, 200, as_turns=True),
            hub.GOLD: of_pair(4000, 80, as_turns=False),
        }
        for source, found in battles.items():
            write_vectors(self.data / source.vectors.name, first_turns(found))
            place = self.data / source.battles.name
            if source is hub.ARENA:
                place.mkdir(parents=True)
                with (place / "train.csv").open("w", newline="") as file:
                    csv.writer(file).writerows([COLUMNS, *found])
            else:
                half = len(found) // 2
                write_parquet(place / "data" / "train-00000-of-00002.parquet", found[:half])
                write_parquet(place / "data" / "train-00001-of-00002.parquet", found[half:])
        for seed, repository in enumerate(hub.CHECKPOINTS["mf"].values()):
            write_checkpoint(self.data / repository.name, seed)

    def run(self, *options: str) -> int:
        places = {"data": self.data, "benchmarks": self.benchmarks, "out": self.out, "work": self.work}
        given = [text for name, place in places.items() for text in (f"--{name}", str(place))]
        return main([*given, "--page", str(self.folder / "paper.md"), "--created", "2026-12-01", *options])

    def made(self) -> dict[str, int]:
        """The routers that there are, and when each was written."""
        return {
            str(file.parent.relative_to(self.work)): file.stat().st_mtime_ns for file in self.work.rglob("router.json")
        }


@pytest.fixture(scope="module")
def made_world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("paper"))


@pytest.fixture
def world(made_world: World, tmp_path: Path) -> World:
    """The same data, with nothing made of them yet."""
    made_world.work, made_world.out = tmp_path / "work", tmp_path / "results"
    return made_world


@pytest.fixture
def server(no_server_settings: None, monkeypatch: pytest.MonkeyPatch) -> FakeOpenAI:
    with FakeOpenAI(DIM) as found:
        monkeypatch.setenv("OPENAI_BASE_URL", found.url)
        monkeypatch.setenv("OPENAI_API_KEY", "sk-of-the-tests-own")
        yield found


@pytest.mark.slow
def test_from_the_hub_s_files_to_the_page(world: World, server: FakeOpenAI, capsys: pytest.CaptureFixture[str]) -> None:
    assert world.run() == 0, capsys.readouterr().err
    shown = capsys.readouterr()
    # What has a published vector is not paid for again.
    assert sorted(server.texts) == sorted({*world.prompts, SECOND_TURN} - {TAINTED})
    assert f"asked for {Cost.of(server.texts)}" in shown.err
    assert server.url in shown.err

    found = json.loads((world.out / "paper.json").read_text())
    wanted = rows(("static", MODEL), ("mf",))
    assert list(found["routers"]) == [row.name for row in wanted]
    assert len(wanted) == 2 + 12 + 3
    for name in BENCHMARKS:
        results = found["benchmarks"][name]["results"]
        assert list(results) == [*(row.name for row in wanted), "prompt length", "random", "oracle"]
        assert all(low <= value <= high for row in results.values() for value, low, high in row.values())
    assert found["bought"]["texts"] == len(server.texts)

    text = (world.folder / "paper.md").read_text()
    assert text == page.markdown(found)
    assert "Made on 2026-12-01" in text
    assert "was not run" not in text
    apgr = found["benchmarks"]["mt_bench"]["results"][f"mf, arena + judge, {MODEL}"]["apgr_paper"]
    line = next(
        line
        for line in text.split("### MT-Bench")[1].splitlines()
        if line.startswith(f"| mf | arena + judge | {MODEL}")
    )
    assert f"| {apgr[0]:.3f} ({apgr[1]:.3f} to {apgr[2]:.3f}) | 0.802 |" in line
    assert shown.out.strip() == page.tables(found)

    trained = json.loads((world.work / "routers" / f"sw_ranking-arena-judge-{MODEL}" / "router.json").read_text())
    metrics = trained["provenance"]["training"]
    assert metrics["evaluation"]["battles_left_out"] == 1, "a benchmark's prompt is in the arena data"
    assert metrics["battles"] == len(first_turns(arena())) - 1 + 200

    # Nothing is made twice: not the routers, not the vectors, not the win rates.
    before, asked = world.made(), len(server.requests)
    assert len(before) == 12 + 3
    assert world.run() == 0
    assert world.made() == before
    assert len(server.requests) == asked
    again = json.loads((world.out / "paper.json").read_text())
    assert again["benchmarks"] == found["benchmarks"]
    assert again["bought"]["texts"] == 0
    # And what is taken away is, alone.
    shutil.rmtree(world.work / "routers" / "mf-arena-static")
    assert world.run() == 0
    assert {name for name, time in world.made().items() if before[name] != time} == {"routers/mf-arena-static"}


def test_without_a_key_the_static_embedder_is_left(world: World, no_server_settings: None) -> None:
    assert world.run("--embedder", "static") == 0
    found = json.loads((world.out / "paper.json").read_text())
    assert list(found["routers"]) == [row.name for row in rows(("static",), ("mf",))]
    assert {router["embedder"] for router in found["routers"].values()} == {"static"}
    assert found["bought"] == {"texts": 0, "text_bytes": 0, "at_most_usd": 0.0}
    assert not (world.work / "vectors").exists()


def test_routellm_s_transformers_are_read(world: World) -> None:
    pytest.importorskip("onnxruntime")
    causal, bert = (hub.CHECKPOINTS[kind]["arena"] for kind in ("causal_llm", "bert"))
    classifier_folder(world.data / bert.name)
    for repository in (causal, hub.LLAMA_TOKENIZER):
        causal_checkpoint(world.data / repository.name)
    wanted = [row for row in rows((), ("mf", "bert", "causal_llm")) if row.stage == "arena"]
    assert [row.name for row in wanted] == ["routellm/bert", "routellm/causal_llm"]
    for row in wanted:
        place = made(row, world.data, world.work, embedder=None, evaluation=[], created="2026-12-01")
        win_rates = Stored(place, None, row.kind).win_rates(["prove the a", "hello"])
        assert win_rates.shape == (2,)
        assert win_rates[0] != win_rates[1]


def test_the_cap_is_kept_before_anything_is_sent(
    world: World, server: FakeOpenAI, capsys: pytest.CaptureFixture[str]
) -> None:
    assert world.run("--max-cost-usd", "0") == 2
    shown = capsys.readouterr().err
    cost = Cost.of(sorted({*world.prompts, SECOND_TURN} - {TAINTED}))
    assert f"vectors of {cost} may cost more than --max-cost-usd 0: nothing was sent" in shown
    assert server.requests == []
    assert world.run("--max-cost-usd", "nan") == 2
    assert "--max-cost-usd is a number of US dollars" in capsys.readouterr().err
    assert not (world.out / "paper.json").exists()


def test_what_the_server_gave_before_it_failed_is_kept(
    world: World, server: FakeOpenAI, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("recipes.paper.vectors._BATCH", 50)
    refuse = server.reply_type(status=401, body={"error": {"message": "no credit left"}})
    server.script.extend([server.reply_type(), refuse])
    assert world.run() == 2
    assert "no credit left" in capsys.readouterr().err
    assert world.run("--max-cost-usd", "0") == 2
    left = [text for text in (*world.prompts, SECOND_TURN) if text != TAINTED][50:]
    assert f"vectors of {Cost.of(left)} may cost more" in capsys.readouterr().err


def test_vectors_of_other_battles_are_refused(
    world: World, server: FakeOpenAI, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(world.data, tmp_path / "hub")
    folder = tmp_path / "hub" / hub.ARENA.vectors.name
    shutil.rmtree(folder)
    write_vectors(folder, ["one text alone"])
    assert world.run("--data", str(tmp_path / "hub")) == 2
    assert "these files do not belong together" in capsys.readouterr().err
    assert server.requests == []


def test_a_hub_that_cannot_be_reached_is_named_with_the_way_around(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("huggingface_hub")
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    assert world.run("--data", str(tmp_path / "empty")) == 2
    shown = capsys.readouterr().err
    name = hub.ARENA.battles.name
    assert f"hf:{name} could not be downloaded to {tmp_path}/empty/{name}" in shown
    assert f"`hf download {name} --repo-type dataset --local-dir {tmp_path}/empty/{name}`" in shown
    assert "--data" in shown
    # What began to be downloaded is not taken for the whole.
    with pytest.raises(DataError, match="could not be downloaded"):
        hub.fetched(hub.ARENA.battles, tmp_path / "empty")


def test_a_repository_is_downloaded_once_and_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("huggingface_hub")
    asked = []

    def download(name: str, *, repo_type: str, local_dir: Path, allow_patterns: object) -> str:
        asked.append((name, repo_type))
        (local_dir / f"part-{len(asked)}").touch()
        if len(asked) == 1:
            raise ConnectionError("the line broke")
        return str(local_dir)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    repository = hub.CHECKPOINTS["mf"]["arena"]
    with pytest.raises(DataError, match=r"hf:routellm/mf could not .* \(ConnectionError: the line broke\)"):
        hub.fetched(repository, tmp_path)
    for _ in range(2):
        place = hub.fetched(repository, tmp_path)
        assert sorted(file.name for file in place.iterdir()) == ["part-1", "part-2"], "it goes on where it stopped"
    assert asked == [("routellm/mf", "model")] * 2
    assert place == tmp_path / "routellm" / "mf"


def test_no_checkout_of_routellm_is_named(world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert world.run("--benchmarks", str(tmp_path)) == 2
    assert "is no folder of benchmarks" in capsys.readouterr().err


def test_the_page_is_that_of_the_results_or_says_that_there_are_none(capsys: pytest.CaptureFixture[str]) -> None:
    assert page.main([str(REPOSITORY / "benchmarks" / "results")]) == 0
    text = capsys.readouterr().out
    assert (REPOSITORY / "docs" / "paper.md").read_text(encoding="utf-8") == text
    was_run = (REPOSITORY / "benchmarks" / "results" / "paper.json").is_file()
    assert ("**This command was not run.**" in text) != was_run
    for words in ("| mf | arena + judge |", "0.802", "2406.18665", "make paper", "--max-cost-usd"):
        assert words in text


def test_the_paper_s_tables_are_whole() -> None:
    for table in TABLES.values():
        stages = {stage for _, stage in table if stage}
        assert len(table) == 1 + 4 * len(stages) == 9
        assert stages < set(hub.STAGES)
        assert all(0.0 < row.cpt50 < row.cpt80 < 100.0 and 0.0 < row.apgr < 1.0 for row in table.values())


def test_the_cost_that_the_page_states_is_that_of_the_benchmarks(shared_data: Path) -> None:
    prompts = {prompt for benchmark in read_benchmarks(shared_data / "routellm_evals") for prompt in benchmark.prompts}
    assert Cost.of(sorted(prompts)) == BENCHMARKS_COST
