"""What RouteLLM's authors published on the Hugging Face hub, and how it comes to this machine."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal, NamedTuple

from routellm_fast.errors import DataError
from routellm_fast.extras import require


class Repository(NamedTuple):
    """A repository of the hub.

    Attributes:
        name: "OWNER/NAME".
        form: What the hub calls it.
        holds: What is in it.
        megabytes: About how much is downloaded.
        license: What its page states.
        files: Patterns of the names of what is downloaded; None takes all.
    """

    name: str
    form: Literal["dataset", "model"]
    holds: str
    megabytes: int
    license: str
    files: tuple[str, ...] | None = None


class BattleData(NamedTuple):
    """Battles, and the vectors of their prompts by text-embedding-3-small, row by row."""

    battles: Repository
    vectors: Repository


ARENA: Final = BattleData(
    Repository(
        "lmsys/lmsys-arena-human-preference-55k",
        "dataset",
        "57,477 battles of 64 models, votes of Chatbot Arena's users",
        180,
        "Apache-2.0",
    ),
    Repository("routellm/arena_battles_embeddings", "dataset", "vectors of their prompts", 690, "none stated"),
)
JUDGE: Final = BattleData(
    Repository(
        "routellm/gpt4_judge_battles",
        "dataset",
        "109,101 battles of the pair on Nectar's prompts, judged by GPT-4",
        170,
        "Apache-2.0; see also Nectar's",
    ),
    Repository("routellm/gpt4_judge_battles_embeddings", "dataset", "vectors of their prompts", 1350, "none stated"),
)
GOLD: Final = BattleData(
    Repository(
        "routellm/mmlu_battles", "dataset", "1,530 battles of the pair on MMLU's validation questions", 1, "none stated"
    ),
    Repository("routellm/mmlu_battles_embeddings", "dataset", "vectors of their prompts", 19, "none stated"),
)
# What the paper trains on, by the names of its tables: D_arena, D_arena + D_judge, D_arena + D_gold.
STAGES: Final[Mapping[str, tuple[BattleData, ...]]] = {
    "arena": (ARENA,),
    "arena + judge": (ARENA, JUDGE),
    "arena + gold": (ARENA, GOLD),
}


def _checkpoints(kind: str, holds: str, megabytes: int) -> dict[str, Repository]:
    names = {"arena": kind, "arena + judge": f"{kind}_gpt4_augmented", "arena + gold": f"{kind}_mmlu_augmented"}
    return {
        stage: Repository(f"routellm/{name}", "model", holds, megabytes, "none stated") for stage, name in names.items()
    }


# RouteLLM's own routers by kind, and by what they were trained on.
CHECKPOINTS: Final[Mapping[str, Mapping[str, Repository]]] = {
    "mf": _checkpoints("mf", "RouteLLM's mf, on text-embedding-3-small", 1),
    "bert": _checkpoints("bert", "a fine-tuned XLM-RoBERTa", 1110),
    "causal_llm": _checkpoints("causal_llm", "a fine-tuned Llama 3 of 8 billion weights", 16070),
}
# RouteLLM's causal_llm comes without one.
LLAMA_TOKENIZER: Final = Repository(
    "meta-llama/Meta-Llama-3-8B",
    "model",
    "its tokenizer alone; the hub asks for an account",
    9,
    "Llama 3's",
    ("token*",),
)


def fetched(repository: Repository, data: Path) -> Path:
    """Return the folder of a repository below the data folder, and download it first where it is not there.

    An interrupted download goes on where it stopped. Raises DataError where the hub does not give the repository.
    """
    place = data / repository.name
    if place.is_dir():
        return place
    hub = require("huggingface_hub", "hf")
    part = place.with_name(f".{place.name}.part")
    try:
        part.mkdir(parents=True, exist_ok=True)
        hub.snapshot_download(
            repository.name, repo_type=repository.form, local_dir=part, allow_patterns=repository.files
        )
        part.rename(place)
    except Exception as error:  # the library passes on what its transports raise
        reason = next(iter(str(error).strip().splitlines()), "no reason given")
        raise DataError(
            f"hf:{repository.name} could not be downloaded to {place} ({type(error).__name__}: {reason}). If this "
            "machine cannot reach the hub, download it on another (`hf download "
            f"{repository.name} --repo-type {repository.form} --local-dir {place}`) and put the folder there, or name "
            "by --data another folder in which OWNER/NAME lie"
        ) from error
    return place
