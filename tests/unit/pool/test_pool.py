from __future__ import annotations

import json
import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import routellm_fast as rf
from routellm_fast.cli import main
from routellm_fast.errors import DataError, InvalidArgumentError, InvalidThresholdError, UnknownModelError
from routellm_fast.pool import ModelPool, PoolModel, pool_models_of, read_pool_models
from routellm_fast.routers import RandomRouter
from tests.support.builders import mf_router
from tests.support.pool_builders import COSTS, WrittenLogits, written_pool, written_router
from tests.support.processes import assert_refused, run_cli
from tests.support.terminal import run_in_terminal

# Against logit 0: sigmoid(-1) and sigmoid(-2).
ONE, TWO = 1 / (1 + math.e), 1 / (1 + math.e**2)
PROMPTS = ["0 -1 -2", "-1 0 0", "-2 -2 0", "1 0 -1"]


def test_all_models_are_ranked_against_the_best_of_the_prompt():
    ranked = written_pool().rank("0 -1 -2")
    assert [(model.model, model.cost_usd_per_1k) for model in ranked] == [("large", 10), ("middle", 2), ("small", 1)]
    assert [model.win_rate for model in ranked] == pytest.approx([0.5, ONE, TWO], abs=1e-15)


def test_equal_logits_stand_in_the_order_of_cost_then_name():
    ranked = written_pool({"b": 1.0, "c": 2.0, "a": 1.0}).rank("0 0 0")
    assert [model.model for model in ranked] == ["a", "b", "c"]
    assert [model.win_rate for model in ranked] == [0.5, 0.5, 0.5]
    assert written_pool({"b": 1.0, "c": 2.0, "a": 1.0}).choose("0 0 0", 0.5).model == "a"


@pytest.mark.parametrize(
    ("tau", "chosen"),
    [
        (0.5, ["large", "small", "small", "large"]),  # small ties with middle on the second prompt
        (1 - ONE - 1e-9, ["large", "small", "small", "large"]),
        (1 - ONE + 1e-9, ["middle", "small", "small", "middle"]),
        (1 - TWO - 1e-9, ["middle", "small", "small", "middle"]),
        (1 - TWO + 1e-9, ["small"] * 4),
        (1.0, ["small"] * 4),
    ],
)
def test_the_cheapest_whose_win_rate_is_at_least_one_minus_tau(tau, chosen):
    decisions = written_pool().choose_batch(PROMPTS, tau)
    assert [decision.model for decision in decisions] == chosen
    for decision in decisions:
        assert decision.tau == tau
        assert decision.win_rate >= 1 - tau - 1e-15
        assert decision.cost_usd_per_1k == COSTS[decision.model]


def test_a_named_best_model_leaves_all_of_tau():
    pool = written_pool(best_model="large")
    assert (pool.best_model, pool.least_tau) == ("large", 0.0)
    prompt = "0 1 2"  # both beat it: large wins at a rate of sigmoid(-1) and sigmoid(-2)
    assert [pool.choose(prompt, tau).model for tau in (0.0, TWO - 1e-9, TWO + 1e-9, ONE + 1e-9)] == [
        "large",
        "large",
        "small",
        "small",
    ]
    ranked = pool.rank(prompt)
    assert [model.model for model in ranked] == ["small", "middle", "large"]
    assert [model.win_rate for model in ranked] == pytest.approx([1 - TWO, 1 - ONE, 0.5])
    assert pool.choose(prompt, 0.0).win_rate == 0.5


def test_models_dearer_than_a_named_best_are_never_chosen():
    pool = written_pool(best_model="middle")
    assert {pool.choose(prompt, tau).model for prompt in PROMPTS for tau in (0.0, 0.3, 0.6, 1.0)} == {"middle", "small"}


def test_a_batch_is_its_prompts_and_may_be_empty():
    pool = written_pool()
    assert pool.choose_batch(PROMPTS, 0.6) == [pool.choose(prompt, 0.6) for prompt in PROMPTS]
    assert pool.rank_batch(PROMPTS) == [pool.rank(prompt) for prompt in PROMPTS]
    assert pool.choose_batch([], 0.6) == []
    assert pool.rank_batch([]) == []


def test_many_prompts_are_embedded_in_parts():
    prompts = PROMPTS * 2500
    pool = written_pool()
    np.testing.assert_array_equal(pool.admission_taus(prompts), np.tile(pool.admission_taus(PROMPTS), (2500, 1)))


def test_embeddings_and_prompts_agree():
    pool = written_pool()
    embeddings = WrittenLogits().embed(PROMPTS)
    np.testing.assert_array_equal(pool.admission_taus_from_embeddings(embeddings), pool.admission_taus(PROMPTS))


def test_logits_far_apart_neither_overflow_nor_leave_a_gap():
    pool = written_pool()
    decision = pool.choose("1000 -1000 -1000", 1.0)
    assert (decision.model, decision.win_rate) == ("small", 0.0)


def test_threads_choose_alike():
    pool = written_pool()
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda _: pool.choose_batch(PROMPTS, 0.75), range(50)))
    assert found == [found[0]] * 50


def test_a_routed_name_may_differ_from_the_one_that_is_scored():
    models = [PoolModel("mine", 3.0, scored_as="large"), PoolModel("mirror", 2.5, scored_as="large")]
    pool = ModelPool(written_router(), [*models, PoolModel("small", 1.0)])
    assert [model.name for model in pool.models] == ["small", "mirror", "mine"]
    assert pool.choose("0 -1 -2", 0.5).model == "mirror"


@pytest.mark.parametrize(
    ("budget", "tau", "cost"),
    [
        (5.5, 0.5, 5.5),  # (10 + 1 + 1 + 10) / 4
        (5.4, 1 - ONE, 1.5),
        (1.5, 1 - ONE, 1.5),
        (1.49, 1 - TWO, 1.0),
        (1.0, 1 - TWO, 1.0),
        (100.0, 0.5, 5.5),
    ],
)
def test_tau_for_a_budget_is_the_smallest_that_keeps_it(budget, tau, cost):
    pool = written_pool()
    found = pool.tau_for(PROMPTS, cost_usd_per_1k=budget)
    assert found == pytest.approx(tau, abs=1e-12)
    assert np.mean([d.cost_usd_per_1k for d in pool.choose_batch(PROMPTS, found)]) == cost


def test_tau_for_a_budget_with_a_named_best():
    pool = written_pool(best_model="large")
    assert pool.tau_for(PROMPTS, cost_usd_per_1k=10.0) == 0.0
    assert pool.tau_for(["0 -1 -2"], cost_usd_per_1k=2.0) == pytest.approx(1 - ONE)


@pytest.mark.parametrize("tau", [0.49, 0.0, -0.1, 1.1, math.nan])
def test_tau_out_of_range(tau):
    for choose in (lambda: written_pool().choose("0 0 0", tau), lambda: written_pool().choose_batch([], tau)):
        with pytest.raises(InvalidThresholdError, match="tau"):
            choose()


def test_wrong_types_and_budgets():
    pool = written_pool()
    with pytest.raises(TypeError, match="tau"):
        pool.choose("0 0 0", "0.5")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="not one str"):
        pool.rank_batch("0 0 0")
    with pytest.raises(InvalidArgumentError, match="cheapest model, small at 1"):
        pool.tau_for(PROMPTS, cost_usd_per_1k=0.99)
    with pytest.raises(InvalidArgumentError, match="at least one"):
        pool.tau_for([], cost_usd_per_1k=5)
    with pytest.raises(InvalidArgumentError, match="finite"):
        pool.tau_for(PROMPTS, cost_usd_per_1k=math.nan)


def test_pools_that_are_none():
    router, large = written_router(), PoolModel("large", 1.0)
    with pytest.raises(InvalidArgumentError, match="at least two"):
        ModelPool(router, [large])
    with pytest.raises(InvalidArgumentError, match="large more than once"):
        ModelPool(router, [large, PoolModel("large", 2.0), PoolModel("small", 1.0)])
    with pytest.raises(UnknownModelError, match=r"no vector for 'smal'.*Did you mean small.*scored_as"):
        ModelPool(router, [large, PoolModel("smal", 1.0)])
    with pytest.raises(UnknownModelError, match="best_model 'middle' is not in"):
        ModelPool(router, [large, PoolModel("small", 1.0)], best_model="middle")
    with pytest.raises(InvalidArgumentError, match="found 'random'"):
        ModelPool(RandomRouter(rf.ModelPair("a", "b")), [large])  # type: ignore[arg-type]


@pytest.mark.parametrize("cost", [-1.0, math.nan, math.inf])
def test_costs_that_are_none(cost):
    with pytest.raises(InvalidArgumentError, match="cost_usd_per_1k of 'a'"):
        PoolModel("a", cost)
    with pytest.raises(InvalidArgumentError, match="output_usd_per_1m of 'a'"):
        PoolModel.from_token_prices("a", input_usd_per_1m=1.0, output_usd_per_1m=cost)


def test_models_of_wrong_types():
    with pytest.raises(TypeError, match="must be a number, not str"):
        PoolModel("a", "1")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="must be str, found 1"):
        PoolModel(1, 1.0)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgumentError, match="must not be empty"):
        PoolModel("", 1.0)


def test_prices_of_tokens_are_those_of_the_paper():
    # 24.7 USD a million tokens, 95 of prompt and 264 of answer.
    model = PoolModel.from_token_prices("gpt-4", input_usd_per_1m=24.7, output_usd_per_1m=24.7)
    assert model.cost_usd_per_1k == pytest.approx(24.7 * (95 + 264) / 1000)
    model = PoolModel.from_token_prices(
        "a", input_usd_per_1m=1, output_usd_per_1m=2, input_tokens=1000, output_tokens=500
    )
    assert model.cost_usd_per_1k == pytest.approx(2.0)


def test_a_table_of_models(tmp_path: Path):
    path = tmp_path / "models.csv"
    path.write_text(
        "model,cost_usd_per_1k,input_usd_per_1m,output_usd_per_1m,output_tokens,scored_as\n"
        "a,1.5,,,,\nb,,1,2,1000,large\n"
    )
    first, second = read_pool_models(path)
    assert first == PoolModel("a", 1.5)
    assert (second.name, second.scored_as) == ("b", "large")
    assert second.cost_usd_per_1k == pytest.approx((95 + 2000) / 1000)
    lines = tmp_path / "models.jsonl"
    lines.write_text('{"model": "a", "cost_usd_per_1k": 1.5}\n')
    assert read_pool_models(lines) == [first]


def test_a_word_is_a_model_or_a_table(tmp_path: Path):
    assert pool_models_of("llama3:8b=0.5") == [PoolModel("llama3:8b", 0.5)]
    assert pool_models_of("a=b=1") == [PoolModel("a=b", 1.0)]
    path = tmp_path / "of=2.jsonl"  # a file, though it looks like a model
    path.write_text('{"model": "a", "cost_usd_per_1k": 1.5}\n')
    assert pool_models_of(str(path)) == [PoolModel("a", 1.5)]
    with pytest.raises(InvalidArgumentError, match="must be a number of USD, found 'x'"):
        pool_models_of("a=x")
    with pytest.raises(InvalidArgumentError, match="must not be empty"):
        pool_models_of("=1")
    with pytest.raises(InvalidArgumentError, match="'nowhere' is neither NAME=COST"):
        pool_models_of("nowhere")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("model,cost_usd_per_1k\na,\n", "line 2: 'a' has no cost"),
        ("model,input_usd_per_1m\na,1\n", "'a' has no cost"),
        ("model,cost_usd_per_1k\na,-1\n", "line 2: cost_usd_per_1k of 'a'"),
        ("model,cost_usd_per_1k\na,cheap\n", "finite number"),
        ("name,cost_usd_per_1k\na,1\n", "there is no column 'model'"),
        ("model,cost_usd_per_1k\n", "no rows"),
    ],
)
def test_tables_of_models_that_are_none(tmp_path: Path, content, words):
    path = tmp_path / "models.csv"
    path.write_text(content)
    with pytest.raises(DataError, match=words):
        read_pool_models(path)


def test_the_shipped_router_ranks_its_models():
    router = rf.load_router()
    pool = ModelPool(router, [PoolModel("gpt-4-1106-preview", 9.0), PoolModel("claude-instant-1", 0.7)])  # type: ignore[arg-type]
    prompts = ["hello", "Prove that there are infinitely many primes.", ""]
    logits = router.model_logits(router.embedder.embed(prompts))  # type: ignore[attr-defined]
    names = router.model_names  # type: ignore[attr-defined]
    gap = logits[:, names.index("gpt-4-1106-preview")] - logits[:, names.index("claude-instant-1")]
    for ranked, difference in zip(pool.rank_batch(prompts), gap.tolist(), strict=True):
        assert ranked[0].model == ("gpt-4-1106-preview" if difference > 0 else "claude-instant-1")
        assert ranked[1].win_rate == pytest.approx(1 / (1 + math.exp(abs(difference))), abs=1e-6)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rank") / "router"
    mf_router().save(path)
    return path


MODELS = ("--models", "strong-model=10", "--models", "weak-model=2", "--models", "other-model=1")


def test_rank_lists_all_models_best_first(directory: Path):
    run = run_cli("rank", "hello", "prove the a?", "--router", str(directory), *MODELS, "--jsonl")
    assert run.returncode == 0, run.stderr
    costs = {"strong-model": 10.0, "weak-model": 2.0, "other-model": 1.0}
    pool = ModelPool(mf_router(), [PoolModel(name, cost) for name, cost in costs.items()])
    records = [json.loads(line) for line in run.stdout.splitlines()]
    assert [record["prompt"] for record in records] == ["hello", "prove the a?"]
    for record in records:
        assert "model" not in record
        wanted = pool.rank(record["prompt"])
        assert [entry["model"] for entry in record["ranking"]] == [model.model for model in wanted]
        assert [entry["win_rate"] for entry in record["ranking"]] == pytest.approx(
            [m.win_rate for m in wanted], abs=1e-6
        )


def test_rank_chooses_at_a_tau_or_within_a_budget(directory: Path, tmp_path: Path):
    path = tmp_path / "prompts.jsonl"
    path.write_text('{"prompt": "hello", "id": 3}\n{"prompt": "prove"}\n')
    run = run_cli("rank", "--file", str(path), "--router", str(directory), *MODELS, "--tau", "1", "--jsonl")
    first, second = (json.loads(line) for line in run.stdout.splitlines())
    assert (first["id"], first["model"], first["tau"]) == (3, "other-model", 1.0)
    assert "id" not in second
    run = run_cli("rank", "--file", str(path), "--router", str(directory), *MODELS, "--budget", "1")
    assert run.stdout.count(" * ") == 2
    summary = run.stdout.split("\n\n")[-1].splitlines()
    assert summary[0].startswith("best single model: ")
    assert summary[1].startswith("chosen at tau ")
    assert summary[1].endswith(", 1.0000 USD per 1,000 requests")
    (line,) = (line for line in summary if line.startswith("other-model "))
    assert "100.0 %" in line


def test_rank_reads_a_table_and_holds_against_a_named_model(directory: Path, tmp_path: Path):
    path = tmp_path / "models.csv"
    path.write_text("model,cost_usd_per_1k,scored_as\nmine,5,strong-model\nweak-model,1,\n")
    options = ("--router", str(directory), "--models", str(path), "--best-model", "mine")
    run = run_cli("rank", *options, "--tau", "0", "--jsonl", stdin="hello\n")
    assert json.loads(run.stdout)["model"] == "mine"
    assert run_cli("rank", *options, stdin="").stdout == "no prompts\n"
    assert run_cli("rank", *options, "--budget", "9", stdin="").returncode == 2


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ([], "--models NAME=COST"),
        (["--models", "a=b"], "must be a number of USD, found 'b'"),
        (["--models", "nowhere"], "nowhere"),
        (["--models", "strong-model=1"], "at least two"),
        (["--models", "strong-model=1", "--models", "weak=2"], "no vector for 'weak'"),
        (["--models", "strong-model=-1", "--models", "weak-model=2"], "at least 0"),
        ([*MODELS, "--tau", "0.4"], "tau 0.4"),
        ([*MODELS, "--tau", "0.6", "--budget", "3"], "not both"),
        ([*MODELS, "--budget", "0.5"], "cheapest model"),
        ([*MODELS, "--best-model", "x"], "best_model 'x'"),
    ],
)
def test_rank_refuses(directory: Path, arguments: list[str], word: str, capsys: pytest.CaptureFixture[str]):
    assert main(["rank", "hello", "--router", str(directory), *arguments]) == 2
    written = capsys.readouterr()
    assert (written.out, written.err.count("\n")) == ("", 1)
    assert word in written.err


def test_rank_needs_a_router_of_models():
    assert_refused(run_cli("rank", "hello", "--router", "sw_ranking", *MODELS), "'mf'", "sw_ranking")


# Another spelling, and the name that reading data gives to it.
SPELLED, KNOWN = "mistralai/mixtral-8x7b-chat", "mistralai/Mixtral-8x7B-Instruct-v0.1"


@pytest.mark.parametrize(("trained", "given"), [(KNOWN, SPELLED), (SPELLED, KNOWN), (KNOWN, KNOWN), (SPELLED, SPELLED)])
def test_a_model_goes_by_the_name_of_its_column(trained: str, given: str):
    pool = ModelPool(written_router(("large", trained)), [PoolModel("large", 2.0), PoolModel(given, 1.0)])
    assert [model.model for model in pool.rank("1 2")] == [given, "large"]
    assert ModelPool(pool.router, pool.models, best_model=trained).best_model == given


def test_a_spelling_of_two_models_is_no_name():
    models = [PoolModel("mixtral-8x7b-instruct-v0.1", 1.0), PoolModel("large", 2.0)]
    with pytest.raises(UnknownModelError, match=f"may be any of the router's models {SPELLED}, {KNOWN}: name one"):
        ModelPool(written_router(("large", SPELLED, KNOWN)), models)


def test_rank_takes_the_name_of_the_column_that_it_was_trained_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    pytest.importorskip("torch")
    rows = [f"what is {n} and {'why ' * (n % 5)}?,{n % 2},{(n // 2) % 2},{n % 3 == 0:d}" for n in range(60)]
    (tmp_path / "table.csv").write_text(f"prompt,big,{SPELLED},small\n" + "\n".join(rows) + "\n")
    train = ["train", "mf", "--golden", str(tmp_path / "table.csv"), "--strong-model", "big", "--weak-model", SPELLED]
    assert main([*train, "--out", str(tmp_path / "router"), "--max-epochs", "1"]) == 0, capsys.readouterr().err
    capsys.readouterr()
    models = ["--models", "big=2", "--models", f"{SPELLED}=1", "--models", "small=0.5"]
    assert main(["rank", "hello", "--router", str(tmp_path / "router"), *models, "--jsonl"]) == 0
    ranking = json.loads(capsys.readouterr().out)["ranking"]
    assert {entry["model"] for entry in ranking} == {"big", SPELLED, "small"}


def test_a_model_is_dominated_by_one_that_costs_no_more_and_ranks_no_lower():
    pool = written_pool()  # small, middle, large: cheapest first
    found = pool.dominators(pool.admission_taus(["0 -1 -2", "-1 0 0", "-2 -2 0"]))
    assert found.tolist() == [[-1, -1, -1], [-1, 0, 0], [-1, 0, 0]]


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Options of a `rank` whose router reads logits off the prompt."""
    monkeypatch.setattr("routellm_fast.cli._rank.load_router", lambda *_, **__: written_router())
    return ["--models", "large=10", "--models", "middle=1.01", "--models", "small=1"]


def test_rank_marks_dominated_models(written: list[str], capsys: pytest.CaptureFixture[str]):
    assert main(["rank", "0 2 1", *written]) == 0
    prompt, *lines = capsys.readouterr().out.splitlines()
    assert prompt == "0 2 1"
    assert [line.split()[3] for line in lines[:3]] == ["middle", "small", "large"]
    assert [line.endswith("USD per 1,000 requests") for line in lines[:3]] == [True, True, False]
    assert lines[2].endswith("  dominated by middle")
    assert main(["rank", "0 2 1", *written, "--jsonl"]) == 0
    ranking = json.loads(capsys.readouterr().out)["ranking"]
    assert [entry.get("dominated_by") for entry in ranking] == [None, None, "middle"]


def test_rank_sums_up_with_the_best_single_model_first(written: list[str], capsys: pytest.CaptureFixture[str]):
    easy, hard = "0 -0.04 -2.19", "0 -3 -5"
    assert main(["rank", easy, easy, easy, hard, *written, "--tau", "0.9"]) == 0
    lines = capsys.readouterr().out.split("\n\n")[-1].splitlines()
    assert lines[0] == "best single model: large, mean win rate 0.5000, 10.0000 USD per 1,000 requests"
    assert lines[1].startswith("chosen at tau 0.9, mean win rate 0.20")
    # Three times small, once large: middle alone is better, and cheaper.
    assert lines[2].startswith("Choosing does not pay on these prompts: middle alone costs no more")
    assert [line.split("  ")[0] for line in lines[3:8]] == ["model", "large", "chosen at tau 0.9", "middle", "small"]
    assert [line.split()[-1] for line in lines[4:8]] == ["%", "middle", "%", "%"]
    assert lines[8] == "4 prompts; win rates are predicted, and against the best model on each prompt"
    assert main(["rank", easy, hard, *written, "--tau", "0.5"]) == 0
    assert "does not pay" not in capsys.readouterr().out
    assert main(["rank", easy, hard, *written, "--best-model", "large"]) == 0
    found = capsys.readouterr().out
    assert "against large" in found
    assert "chosen" not in found


def test_rank_draws_a_table_on_a_terminal(directory: Path):
    shown = run_in_terminal("rank", "hello", "prove", "--router", str(directory), *MODELS, "--tau", "0.6", columns=100)
    assert "best single model: " in shown
    assert "|" not in shown
    (head,) = (line for line in shown.splitlines() if line.startswith("model "))
    assert "dominated by" in head
