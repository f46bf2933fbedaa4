"""RouteLLM's configuration: by a router's name, the arguments of its class.

A kind is known by its name (`mf`, `sw_ranking`, `bert`, `causal_llm`, `random`); any other name says it by the further
key `kind`. `checkpoint_path` is a router directory of this package, a folder in the layout in which RouteLLM's own
checkpoints are, or the name of such a repository on the Hugging Face hub; sw_ranking takes a router directory, or the
battles and embeddings that RouteLLM builds it of. Without them, a router that ships is opened.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from routellm_fast.artifact import ROUTER_LAYOUT
from routellm_fast.decision import ModelPair
from routellm_fast.embedders.base import Embedder
from routellm_fast.errors import ArtifactNotFoundError, DataError, InvalidArgumentError
from routellm_fast.extras import require
from routellm_fast.hub import downloaded, is_hub_name
from routellm_fast.routers.base import Router
from routellm_fast.routers.loading import ROUTER_KINDS, SHIPPED_KINDS, load_router
from routellm_fast.routing.function import NAMELESS_PAIR, FunctionRouter
from routellm_fast.routing.protocol import RoutesPrompts
from routellm_fast.shown import shown

_KIND: Final = "kind"
_PATH: Final = "checkpoint_path"
_BATTLES: Final = "arena_battle_datasets"
_EMBEDDINGS: Final = "arena_embedding_datasets"
# What a router directory may be given besides its path; see load_router.
_OF_DIRECTORIES: Final = frozenset({_PATH, "digest", "allow_server"})
# RouteLLM's own arguments of each kind, besides those above.
_OF_KINDS: Final[Mapping[str, frozenset[str]]] = {
    "mf": frozenset({"strong_model", "weak_model", "hidden_size", "num_models", "text_dim", "num_classes", "use_proj"}),
    "sw_ranking": frozenset({_BATTLES, _EMBEDDINGS, "strong_model", "weak_model", "num_tiers"}),
    "bert": frozenset({"num_labels"}),
    "causal_llm": frozenset(
        {"score_threshold", "special_tokens", "num_outputs", "model_type", "model_id", "flash_attention_2"}
    ),
    "random": frozenset(),
}
_CHECKPOINT_FILES: Final = ("*.json", "*.safetensors")
_DATASET_FILES: Final = ("*.parquet", "*.csv", "*.jsonl")


def read_config(path: str | Path) -> dict[str, Any]:
    """Read a YAML file in the layout of RouteLLM's config.example.yaml: by router, a mapping of settings, or a path.

    Raises:
        DataError: It cannot be read, is no YAML, or holds no mapping of routers.
        MissingExtraError: pyyaml is not installed.
    """
    yaml = require("yaml", "serve")
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
    except (yaml.YAMLError, ValueError) as error:
        raise DataError(f"{path} is no YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        found = "nothing" if content is None else type(content).__name__
        raise DataError(f"{path} must hold a mapping from routers to their settings, found {found}")
    for name, settings in content.items():
        if not (isinstance(name, str) and (settings is None or isinstance(settings, (str, dict)))):
            found = type(settings).__name__
            raise DataError(f"{path}: {name}: expected the router's settings, or its directory, found {found}")
    return content


def from_settings(name: str, settings: Mapping[str, Any], model_pair: ModelPair | None) -> RoutesPrompts:
    """Open a router from its settings.

    Args:
        name: The router's name, which is its kind unless the settings have a `kind`.
        settings: See above.
        model_pair: The models that prompts are sent to; None for those of the settings.

    Raises:
        InvalidArgumentError: A setting is unknown, missing, or not what the checkpoint has.
        RouteLLMError: The router cannot be opened.
    """
    given = dict(settings)
    kind = given.pop(_KIND, name)
    if kind not in ROUTER_KINDS:
        raise InvalidArgumentError(
            f"router {shown(name)!r} is of no known kind: name it {', '.join(ROUTER_KINDS)}, or give its {_KIND}"
        )
    unknown = sorted(set(map(str, given)) - _OF_KINDS[kind] - (_OF_DIRECTORIES if kind != "random" else set()))
    if unknown:
        allowed = ", ".join(sorted(_OF_KINDS[kind] | _OF_DIRECTORIES)) if kind != "random" else "none"
        raise InvalidArgumentError(
            f"router {shown(name)!r}: a router of kind {kind} has no setting {', '.join(map(shown, unknown))}; its "
            f"settings are {allowed}"
        )
    if kind == "random":
        return FunctionRouter.random(model_pair or NAMELESS_PAIR)
    opened = _Settings(name, kind, given, model_pair)
    return opened.from_battles() if _BATTLES in given or _EMBEDDINGS in given else opened.from_path()


class _Settings:
    """The settings of one router."""

    def __init__(self, name: str, kind: str, given: dict[str, Any], model_pair: ModelPair | None) -> None:
        self._name, self._kind, self._given, self._pair = name, kind, given, model_pair

    def from_path(self) -> Router:
        path = self._given.get(_PATH)
        if path is None:
            if self._kind not in SHIPPED_KINDS:
                raise self._error(
                    f"no router of kind {self._kind} ships with this package: give the {_PATH} of a router directory, "
                    "or of a checkpoint of RouteLLM's"
                )
            return self._from_directory(self._kind)
        if not isinstance(path, (str, Path)):
            raise self._error(f"{_PATH} is a folder, or a repository of the hub, found {type(path).__name__}")
        if (Path(path) / ROUTER_LAYOUT.manifest_file).is_file():
            return self._from_directory(path)
        if set(self._given) & (_OF_DIRECTORIES - {_PATH}):
            raise self._error(f"digest and allow_server are for router directories, and {shown(str(path))} is none")
        if not (Path(path).exists() or is_hub_name(path)):
            raise ArtifactNotFoundError(
                f"router {shown(self._name)!r}: {shown(str(path))} is neither a folder nor the name of a repository of "
                "the hub, OWNER/NAME"
            )
        opens: Mapping[str, Callable[[str | Path], Router]] = {
            "mf": self._mf,
            "bert": self._bert,
            "causal_llm": self._causal_llm,
        }
        if self._kind not in opens:
            raise self._error(
                f"{shown(str(path))} is no router directory: make one of the battles (routellm-fast train sw_ranking), "
                f"or give {_BATTLES} and {_EMBEDDINGS}"
            )
        return opens[self._kind](path)

    def _from_directory(self, path: str | Path) -> Router:
        own = sorted(set(self._given) - _OF_DIRECTORIES)
        if own:
            raise self._error(
                f"{shown(str(path))} is a router directory, which holds its own {', '.join(own)}: leave them out"
            )
        strong, weak = self._pair or (None, None)
        options = {name: self._given[name] for name in ("digest", "allow_server") if name in self._given}
        router: Router = load_router(path, strong_model=strong, weak_model=weak, **options)
        if router.kind != self._kind:
            raise self._error(
                f"{shown(str(path))} holds a router of kind {router.kind}, where {self._kind} was expected: name it "
                f"so, or give it the setting {_KIND}: {router.kind}"
            )
        return router

    def _mf(self, path: str | Path) -> Router:
        from routellm_fast.routers.matrix_factorization import MatrixFactorizationRouter

        folder = downloaded(str(path), _CHECKPOINT_FILES, extra="hf") if is_hub_name(path) else Path(path)
        read = MatrixFactorizationRouter.from_routellm(folder, **self._scored_pair(), embedder=_openai_embedder())
        sizes = {
            "hidden_size": read.weights["P"].shape[1],
            "num_models": len(read.model_names),
            "text_dim": read.dim,
            "num_classes": 1,
            "use_proj": True,
        }
        self._check(sizes, path)
        if self._pair is None:
            return read
        weights: dict[str, Any] = dict(read.weights)
        return MatrixFactorizationRouter(
            read.model_names,
            **weights,
            model_pair=self._pair,
            scoring_pair=read.scoring_pair,
            embedder=read.embedder,
            provenance=read.provenance,
        )

    def _bert(self, path: str | Path) -> Router:
        from routellm_fast.routers.bert import CLASSES, BertRouter

        self._check({"num_labels": len(CLASSES)}, path)
        return BertRouter.from_pretrained(path, **self._routed_pair())

    def _causal_llm(self, path: str | Path) -> Router:
        from routellm_fast.routers.causal.router import CausalLLMRouter

        options: dict[str, Any] = {}
        if "special_tokens" in self._given:
            options["score_tokens"] = self._texts("special_tokens")
        if "score_threshold" in self._given:
            options["score_threshold"] = self._given["score_threshold"]
        if "model_id" in self._given and Path(str(self._given["model_id"])).is_dir():
            options["tokenizer"] = self._given["model_id"]
        self._check({"model_type": "causal", "flash_attention_2": False}, path)
        router = CausalLLMRouter.from_pretrained(path, **options, **self._routed_pair())
        self._check({"num_outputs": len(router.scoring.score_tokens)}, path)
        return router

    def from_battles(self) -> Router:
        from routellm_fast.data.names import known_aliases
        from routellm_fast.data.routellm_datasets import read_battles, read_embeddings
        from routellm_fast.routers.similarity.router import SimilarityWeightedRouter

        if self._given.keys() & _OF_DIRECTORIES:
            raise self._error(f"give {_PATH}, or {_BATTLES} and {_EMBEDDINGS}, not both")
        battles = [battle for path in self._datasets(_BATTLES) for battle in read_battles(path)]
        outcomes = {1.0: "model_a", 0.0: "model_b"}
        aliases = known_aliases()  # as those of the battles
        scored = {key: aliases.get(model, model) for key, model in self._scored_pair().items()}
        return SimilarityWeightedRouter.build(
            read_embeddings(self._datasets(_EMBEDDINGS)),
            [battle.model_a for battle in battles],
            [battle.model_b for battle in battles],
            [outcomes.get(battle.target, "tie") for battle in battles],
            **scored,
            embedder=_openai_embedder(),
            num_tiers=self._given.get("num_tiers", 10),
            solver="routellm",  # thresholds come along with such a configuration
            model_pair=self._pair,
        )

    def _datasets(self, key: str) -> list[Path]:
        return [
            downloaded(path, _DATASET_FILES, extra="hf", what="dataset") if is_hub_name(path) else Path(path)
            for path in self._texts(key)
        ]

    def _texts(self, key: str) -> Sequence[str]:
        found = self._given.get(key)
        if not (isinstance(found, (list, tuple)) and found and all(isinstance(text, (str, Path)) for text in found)):
            raise self._error(f"{key} is a list of texts, found {found!r}")
        return list(map(str, found))

    def _scored_pair(self) -> dict[str, Any]:
        """The pair whose win rate is computed, by RouteLLM's names unless others are given."""
        return {
            "strong_model": self._given.get("strong_model", "gpt-4-1106-preview"),
            "weak_model": self._given.get("weak_model", "mixtral-8x7b-instruct-v0.1"),
        }

    def _routed_pair(self) -> dict[str, Any]:
        return {} if self._pair is None else {"strong_model": self._pair.strong, "weak_model": self._pair.weak}

    def _check(self, held: Mapping[str, Any], path: str | Path) -> None:
        for key, value in held.items():
            if self._given.get(key, value) != value:
                raise self._error(
                    f"{key} is {self._given[key]!r}, but of {shown(str(path))} it is {value!r}: leave it out"
                )

    def _error(self, text: str) -> InvalidArgumentError:
        return InvalidArgumentError(f"router {shown(self._name)!r}: {text}")


def _openai_embedder() -> Embedder:
    """What RouteLLM's checkpoints and banks were made with. It asks its server when a prompt is scored, not before."""
    from routellm_fast.embedders import OpenAIEmbedder

    return OpenAIEmbedder()
