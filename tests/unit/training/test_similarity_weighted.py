from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import routellm_fast as rf
from routellm_fast import DataError, InvalidArgumentError, ModelPair, UnknownModelError
from routellm_fast import data as training_data
from routellm_fast.training import Progress, SimilarityWeightedConfig, similarity_weighted, train_sw_ranking
from routellm_fast.training.similarity_weighted import Bank, TrainedSimilarityWeighted
from tests.support.builders import static_embedder

PAIR = ModelPair("s", "w")
CONFIG = SimilarityWeightedConfig(num_tiers=3, held_out_share=0.3, seed=1)
EMBEDDER = static_embedder(surface_features=())


def battles(count: int = 400) -> list[training_data.Battle]:
    """The strong model wins where the prompt asks to prove something, and half of the time elsewhere."""
    rows = []
    for i in range(count):
        hard = i % 2 == 0
        text = ("prove the a " if hard else "hello b ") + "c " * (i % 7) + "1 " * (i % 11) + "{ " * (i // 77)
        outcome = 1.0 if hard else (0.0, 0.5, 1.0)[i % 3]
        rows.append(training_data.Battle(text, f"g{i}", *PAIR, outcome, "own"))
        rows.append(training_data.Battle(text, f"g{i}", "w", "other", 1.0 - (i % 5 == 0), "others"))
        rows.append(training_data.Battle(text, f"g{i}", "s", "other", 1.0 - (i % 9 == 0), "others"))
    return rows


def arrays(rows: list[training_data.Battle]) -> training_data.Battles:
    return training_data.to_arrays(rows, keep_order=True)


def train(rows: list[training_data.Battle], *arguments: object, **options: object) -> TrainedSimilarityWeighted:
    return similarity_weighted.train(arrays(rows), *arguments, **options)  # type: ignore[arg-type]


def test_it_judges_and_calibrates_on_prompts_held_out() -> None:
    trained = train(battles(), EMBEDDER, PAIR, CONFIG)
    metrics = json.loads(json.dumps(trained.metrics))
    assert (metrics["battles"], metrics["pair_battles"], metrics["models"]) == (1200, 400, 3)
    held_out = metrics["held_out"]
    assert 0 < held_out["prompts"] < metrics["prompts"]
    assert held_out["accuracy"] > 0.6
    assert held_out["loss"] < 0.7
    assert held_out["win_rates"]["min"] < held_out["win_rates"]["max"]
    assert trained.calibration.prompt_count == held_out["prompts"]
    assert "held out" in trained.calibration.dataset
    router = trained.router(embedder=EMBEDDER)
    assert router.calibration == trained.calibration
    assert router.battle_count == 1200
    hard, easy = router.win_rates(["prove the a", "hello b"])
    assert hard > easy


def test_the_loss_is_that_of_its_own_tiers_without_the_battles_on_the_prompts() -> None:
    rows = battles()
    trained = train(rows, EMBEDDER, PAIR, CONFIG)
    from routellm_fast.data.split import held_out

    kept = trained.bank.battles
    out = held_out(kept.groups, CONFIG.held_out_share, seed=CONFIG.seed)[kept.prompt]
    router = trained.bank.build(PAIR, CONFIG, ~out, ranking=trained.ranking, embedder=EMBEDDER)
    own = [row for row, is_out in zip(rows, out, strict=True) if is_out and (row.model_a, row.model_b) == PAIR]
    rates = router.win_rates([row.prompt for row in own]).astype(np.float64)
    target = np.array([row.target for row in own])
    expected = -np.mean(target * np.log(rates) + (1 - target) * np.log(1 - rates))
    assert trained.metrics["held_out"]["loss"] == pytest.approx(expected, abs=2e-6)
    assert trained.metrics["held_out"]["pair_battles"] == len(own)


def test_turned_battles_tell_the_same() -> None:
    turned = [replace(b, model_a=b.model_b, model_b=b.model_a, target=1.0 - b.target) for b in battles()]
    found = [train(rows, EMBEDDER, PAIR, CONFIG).metrics["held_out"] for rows in (battles(), turned)]
    for metric in ("loss", "constant_loss", "accuracy"):
        assert found[0][metric] == pytest.approx(found[1][metric], abs=1e-5)


def test_without_prompts_held_out_it_calibrates_on_the_bank() -> None:
    trained = train(battles(), EMBEDDER, PAIR, replace(CONFIG, held_out_share=0.0))
    assert trained.metrics["held_out"] == {"prompts": 0}
    assert trained.calibration.dataset.endswith("of the prompts in the bank")
    assert trained.calibration.prompt_count == trained.metrics["prompts"]


def test_held_out_prompts_that_the_others_cannot_score_are_said_and_not_fatal() -> None:
    rows = [row for row in battles() if row.source == "others"]
    only = [
        training_data.Battle(f"prove the one and only {i}", "the only one", "s", "rare", target, "own")
        for i, target in enumerate((1.0, 1.0, 0.0))
    ]
    for seed in range(20):
        config = replace(CONFIG, seed=seed, num_tiers=4)  # a tier for each model
        found = train([*rows, *only], EMBEDDER, ModelPair("s", "rare"), config).metrics
        assert found["verdict"]["against_constant"] == "too few to tell"
        if "reason" in found["held_out"]:
            assert found["held_out"]["prompts"] == 0
            assert "no chain of battles" in found["held_out"]["reason"]
            break
    else:
        pytest.fail("the only prompts of the rare model were never held out")


def test_a_router_of_one_tier_for_both_models_is_refused(tmp_path: Path) -> None:
    """Two alike models, far above a third: with two tiers they share one, and every win rate would be 0.5."""
    rows = []
    for i in range(300):
        text = ("prove the a " if i % 2 else "hello b ") + "c " * (i % 7) + f"{i % 11}"
        rows.append(training_data.Battle(text, f"g{i}", *PAIR, (0.0, 1.0)[i % 2], "own"))
        rows += [training_data.Battle(text, f"g{i}", name, "tiny", 1.0 - (i % 9 == 0), "others") for name in PAIR]
    with pytest.raises(DataError, match=r"s and w are in one tier, 0 of 2 .*0.5, whatever the prompt.*--num-tiers"):
        train(rows, EMBEDDER, PAIR, replace(CONFIG, num_tiers=2))
    path = tmp_path / "battles.csv"
    winners = {1.0: "model_a", 0.0: "model_b"}
    lines = [f"{row.prompt},{row.model_a},{row.model_b},{winners[row.target]}" for row in rows]
    path.write_text("\n".join(["prompt,model_a,model_b,winner", *lines]))
    arguments = {"battles": [path], "embedder": EMBEDDER, "model_pair": PAIR, "min_prompt_chars": 1}
    with pytest.raises(DataError, match="in one tier"):
        train_sw_ranking(**arguments, config=replace(CONFIG, num_tiers=2), out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_router_that_is_written_is_the_one_that_is_calibrated() -> None:
    """Its tiers, not those of the battles that are left when prompts are held out."""
    trained = train(battles(), EMBEDDER, PAIR, CONFIG)
    assert (
        dict(zip(trained.ranking.models, trained.ranking.tiers.tolist(), strict=True))
        == trained.router(embedder=EMBEDDER).tiers
    )
    rates = trained.metrics["held_out"]["win_rates"]
    assert rates == trained.metrics["calibration"]["win_rates"]
    table = dict(trained.calibration.table)
    assert table[0.5] == pytest.approx(rates["median"], abs=1e-6)
    # A prompt of the bank is most similar to itself; without its own battles it gets another win rate.
    router = trained.router(embedder=EMBEDDER)
    inside = np.median(router.win_rates(list(trained.bank.battles.prompts)))
    assert inside != pytest.approx(rates["median"], abs=1e-6)


def test_where_few_are_held_out_every_prompt_is_scored_without_its_own_battles() -> None:
    rows = battles(180)  # some 50 prompts would be held out
    trained = train(rows, EMBEDDER, PAIR, CONFIG)
    metrics = trained.metrics
    assert metrics["held_out"]["prompts"] == metrics["prompts"] == trained.calibration.prompt_count
    assert trained.calibration.dataset.endswith("held out, scored without their own battles")
    assert metrics["verdict"]["battles"] == metrics["pair_battles"]


def test_it_says_whether_it_is_better_than_a_constant() -> None:
    found = train(battles(), EMBEDDER, PAIR, CONFIG).metrics["verdict"]
    assert found["against_constant"] == "better"
    assert found["line"].startswith("verdict: better than a constant, ")
    random = np.random.default_rng(0)
    noise = [replace(row, target=float(random.random() < 0.5)) for row in battles()]
    rows = [row if row.source == "others" else other for row, other in zip(battles(), noise, strict=True)]
    assert train(rows, EMBEDDER, PAIR, CONFIG).metrics["verdict"]["against_constant"] != "better"


def test_each_distinct_prompt_is_embedded_once_with_progress() -> None:
    seen: list[str] = []
    stages: list[Progress] = []

    def embed(texts: list[str]) -> np.ndarray:
        seen.extend(texts)
        return EMBEDDER.embed(texts)

    embedder = rf.FunctionEmbedder(embed, name="counting", dim=EMBEDDER.dim)
    rows = [replace(row, prompt=f"{row.prompt} {'a ' * (i % 9)}", group=f"g{i}") for i, row in enumerate(battles(900))]
    train(rows, embedder, PAIR, CONFIG, on_progress=stages.append)
    assert len(seen) == len(set(seen)) == len({row.prompt for row in rows}) > 1024
    embedding = [stage for stage in stages if stage.name == "embedding prompts"]
    assert [stage.done for stage in embedding] == [1024, 2048, len(seen)]
    assert {stage.total for stage in embedding} == {len(seen)}


def test_prompts_without_a_known_word_are_left_out() -> None:
    unknown = training_data.Battle("zzz qqq", "z", *PAIR, 1.0, "own")
    bank = Bank.of_texts(arrays([unknown, *battles(10), unknown]), EMBEDDER)
    assert len(bank) == 30
    prompts = [bank.battles.prompts[index] for index in bank.battles.prompt]
    assert prompts == [battle.prompt for battle in battles(10)]
    np.testing.assert_array_equal(bank.vectors[bank.row], EMBEDDER.embed(prompts))
    assert train([*battles(), unknown], EMBEDDER, PAIR, CONFIG).metrics["left_out"] == 1
    with pytest.raises(DataError, match="knows no word"):
        Bank.of_texts(arrays([unknown]), EMBEDDER)


def test_given_embeddings_are_those_of_the_battles_row_by_row() -> None:
    rows = battles()
    given = EMBEDDER.embed([row.prompt for row in rows])
    by_text, by_rows = train(rows, EMBEDDER, PAIR, CONFIG), train(rows, None, PAIR, CONFIG, embeddings=given)
    assert by_text.metrics == by_rows.metrics
    np.testing.assert_array_equal(
        by_text.router(embedder=EMBEDDER).win_rates_from_embeddings(given[:9]),
        by_rows.router(embedder=None).win_rates_from_embeddings(given[:9]),
    )
    with pytest.raises(DataError, match=r"1,199 embeddings but 1,200 battles"):
        train(rows, None, PAIR, CONFIG, embeddings=given[1:])


def test_what_cannot_be_built_is_named() -> None:
    with pytest.raises(DataError, match="there is no battle"):
        train([], EMBEDDER, PAIR, CONFIG)
    with pytest.raises(UnknownModelError, match="no battle of 'huge'"):
        train(battles(), EMBEDDER, ModelPair("huge", "w"), CONFIG)
    with pytest.raises(InvalidArgumentError, match="give an embedder"):
        train(battles(), None, PAIR, CONFIG)
    with pytest.raises(InvalidArgumentError, match="num_tiers"):
        train(battles(), EMBEDDER, PAIR, replace(CONFIG, num_tiers=1))


@pytest.mark.parametrize(
    "wrong",
    [
        {"precision": "float128"},
        {"same_tier": "maybe"},
        {"solver": "guess"},
        {"held_out_share": 1.0},
        {"held_out_share": float("nan")},
        {"seed": -1},
    ],
)
def test_a_config_that_cannot_be_used_is_refused_at_once(wrong: dict[str, object]) -> None:
    with pytest.raises(InvalidArgumentError, match=str(next(iter(wrong.values()))).strip("-")):
        replace(CONFIG, **wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("precision", ["int8", "moments"])
def test_a_compressed_router_is_judged_as_the_exact_one(precision: str) -> None:
    exact, compressed = (train(battles(), EMBEDDER, PAIR, replace(CONFIG, precision=p)) for p in ("float32", precision))
    assert exact.metrics["held_out"] == compressed.metrics["held_out"]
    router = compressed.router(embedder=EMBEDDER)
    assert router.precision == precision
    assert router.win_rate("prove the a") == pytest.approx(
        exact.router(embedder=EMBEDDER).win_rate("prove the a"), abs=max(2 * router.error_bound, 1e-6)
    )


def routellm_dataset(folder: Path) -> tuple[Path, Path, list[training_data.Battle]]:
    """Battles and embeddings as RouteLLM publishes them, one prompt too short for it among them."""
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    rows = [replace(row, prompt=f"{row.prompt} the the the") for row in battles(200)]
    texts = [json.dumps([row.prompt]) for row in rows]
    texts.insert(7, json.dumps(["too short"]))
    columns = {
        "model_a": [row.model_a for row in rows],
        "model_b": [row.model_b for row in rows],
        "winner_model_a": [int(row.target == 1.0) for row in rows],
        "winner_model_b": [int(row.target == 0.0) for row in rows],
    }
    table = {name: [*cells[:7], cells[0], *cells[7:]] for name, cells in columns.items()}
    parquet.write_table(pyarrow.table({**table, "prompt": texts}), folder / "battles.parquet")
    vectors = EMBEDDER.embed([row.prompt for row in rows]).astype(np.float64).tolist()
    parquet.write_table(pyarrow.table({"embeddings": vectors}), folder / "embeddings.parquet")
    return folder / "battles.parquet", folder / "embeddings.parquet", rows


def test_routellm_datasets_become_a_router(tmp_path: Path) -> None:
    path, embeddings, rows = routellm_dataset(tmp_path)
    common = {"battles": [path], "model_pair": PAIR, "config": CONFIG, "created": "2026-11-25"}
    found = train_sw_ranking(**common, embeddings=[embeddings], embedder=None, out=tmp_path / "rows")
    assert found["battles"] == len(rows)
    assert set(found["files"]) == {"battles.parquet", "embeddings.parquet"}
    assert found["tiers"] == [["s"], ["w"], ["other"]]
    assert found["pair_tiers"] == [0, 1]
    by_rows = rf.load_router(tmp_path / "rows", embedder=EMBEDDER)
    train_sw_ranking(**common, embedder=EMBEDDER, out=tmp_path / "texts")
    by_texts = rf.load_router(tmp_path / "texts")
    prompts = [row.prompt for row in rows[:20]]
    np.testing.assert_allclose(by_rows.win_rates(prompts), by_texts.win_rates(prompts), atol=1e-6)
    assert by_texts.provenance["created"] == "2026-11-25"


def test_embeddings_go_with_battles_in_csv_too(tmp_path: Path) -> None:
    path, embeddings, rows = routellm_dataset(tmp_path)
    records = pytest.importorskip("pyarrow.parquet").read_table(path).to_pylist()
    with (tmp_path / "arena.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(records[0]))
        writer.writeheader()
        writer.writerows(records)
    common = {"embeddings": [embeddings], "embedder": None, "model_pair": PAIR, "config": CONFIG}
    for name, battles in (("csv", tmp_path / "arena.csv"), ("parquet", path)):
        found = train_sw_ranking(**common, battles=[battles], out=tmp_path / name)
        assert found["battles"] == len(rows)
    by_csv, by_parquet = (rf.load_router(tmp_path / name, embedder=EMBEDDER) for name in ("csv", "parquet"))
    prompts = [row.prompt for row in rows[:20]]
    assert np.array_equal(by_csv.win_rates(prompts), by_parquet.win_rates(prompts))


def test_embeddings_only_go_with_routellm_datasets(tmp_path: Path) -> None:
    path, embeddings, _ = routellm_dataset(tmp_path)
    common = {"model_pair": PAIR, "config": CONFIG, "embedder": None, "out": tmp_path / "out"}
    table = tmp_path / "battles.csv"
    table.write_text("prompt,model_a,model_b,winner\nprove the a b c d e,s,w,tie\n")
    for arguments in ({"battles": [table]}, {"battles": [path, table]}, {"battles": [path], "golden": [table]}, {}):
        with pytest.raises(InvalidArgumentError, match="embeddings belong to the battles of RouteLLM's datasets"):
            train_sw_ranking(**common, **arguments, embeddings=[embeddings])
    with pytest.raises(DataError, match="states no licenses"):
        train_sw_ranking(**common, battles=[path], licenses={"mit"})
    assert not (tmp_path / "out").exists()


def test_a_pair_may_go_by_any_known_name(tmp_path: Path) -> None:
    path = tmp_path / "battles.csv"
    lines = [
        f"prove the a b c {'1 ' * i},gpt-4,mixtral-8x7b-instruct-v0.1,{w}"
        for i in range(9)
        for w in ("tie", "model_a", "model_b" if i % 3 else "model_a")
    ]
    path.write_text("\n".join(["prompt,model_a,model_b,winner", *lines]) + "\n")
    pair = ModelPair("gpt-4", "Mixtral-8x7B-Instruct-v0.1")
    train_sw_ranking(battles=[path], embedder=EMBEDDER, model_pair=pair, config=CONFIG, out=tmp_path / "out")
    assert rf.load_router(tmp_path / "out").model_pair == pair
