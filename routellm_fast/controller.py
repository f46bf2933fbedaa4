"""RouteLLM's Controller: change the import, and calls of RouteLLM 0.2.0 go through the routers of this package.

>>> from routellm_fast.controller import Controller
>>> client = Controller(routers=["mf"], strong_model="gpt-4-1106-preview", weak_model="gpt-4o-mini")
>>> client.route("Prove that there are infinitely many primes.", "mf", threshold=0.5)
'gpt-4-1106-preview'
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace, TracebackType
from typing import TYPE_CHECKING, Any, Final, NamedTuple, get_args

import numpy as np

from routellm_fast.decision import Decision, ModelPair
from routellm_fast.errors import InvalidArgumentError, RoutingError
from routellm_fast.extras import require
from routellm_fast.prompt import Rule, text_of
from routellm_fast.routing import RouterName, RouterSet, load_routers, read_config
from routellm_fast.scoring import score_in_batches
from routellm_fast.upstreams import OpenAIUpstream, Upstream, UpstreamName, named_upstream

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Controller", "ModelPair", "RoutingError"]

# So many prompts are scored between two movements of a progress bar.
_BATCH: Final = 256
# A progress bar that would be gone sooner is not shown.
_BAR_DELAY_S: Final = 2.0


class _Server(NamedTuple):
    """Where a model is: address and key, None for what the upstream finds."""

    api_base: str | None
    api_key: str | None

    def __repr__(self) -> str:
        """Whether there is a key, and not which."""
        return f"_Server(api_base={self.api_base!r}, api_key={'set' if self.api_key else 'none'})"


class Controller:
    """Sends each chat to a strong or a weak model, as the router that its model name asks for decides. Thread-safe.

    A request is what OpenAI's client takes, with a model name such as `router-mf-0.116`: the router, and the threshold
    from which on its win rate sends a chat to the strong model. `router-mf` takes the router's calibrated threshold.
    All else that the request holds goes on as it came: tools and their history, images, formats, `stream=True`.

    Attributes:
        model_pair: The strong and the weak model.
        routers: The routers by name.
        model_counts: By router and model, how many chats were sent there.
        api_base: The models' address; None where it was not given.
        api_key: Its key; None likewise.
        progress_bar: Whether progress is shown.
        chat: `chat.completions.create` is `completion`, and `chat.completions.acreate` is `acompletion`.
    """

    def __init__(
        self,
        routers: Sequence[str] | Mapping[str, Any] | RouterSet,
        strong_model: str,
        weak_model: str,
        config: Mapping[str, Any] | str | Path | None = None,
        api_base: str | None = None,
        api_key: str | None = None,
        progress_bar: bool = False,
        *,
        strong_api_base: str | None = None,
        strong_api_key: str | None = None,
        weak_api_base: str | None = None,
        weak_api_key: str | None = None,
        upstream: UpstreamName | Upstream | None = None,
        route_on: Rule = "last_user",
    ) -> None:
        """Open the routers; no model is asked.

        Args:
            routers: Names of routers: "mf" and "sw_ranking" ship with this package and "random" needs nothing; any
                other has an entry in config. Or the routers themselves by name; see routing.load_routers.
            strong_model: The strong model, by the upstream's name for it.
            weak_model: The weak model.
            config: RouteLLM's configuration, or its YAML file: by router what its class takes, such as
                `{"mf": {"checkpoint_path": "path/to/router"}}`; see routing.routellm_config.
            api_base: Address of both models' server; None leaves it to the upstream.
            api_key: Its key; None leaves it to the upstream.
            progress_bar: Show on a terminal how far the opening of routers and batch_calculate_win_rate are, where they
                take more than two seconds. Needs tqdm, which the extras `openai` and `litellm` bring.
            strong_api_base: Address of the strong model's server, where it has its own. api_key does not go there.
            strong_api_key: Its key.
            weak_api_base: The same for the weak model.
            weak_api_key: Its key.
            upstream: Who asks the models: "litellm", "openai" for OpenAI-compatible servers, or an object with
                `completion` and `acompletion` (see upstreams.Upstream). None: LiteLLM where it is installed, else
                openai.
            route_on: Which message's text is routed on: "last_user", the user's newest that has text; or "last", the
                last one whatever its role, which is RouteLLM's rule.

        Raises:
            InvalidArgumentError: A router's name or setting says nothing that could be opened, or another argument
                breaks its rule.
            RouteLLMError: A router cannot be opened; see load_router.
        """
        for what, name in (("strong_model", strong_model), ("weak_model", weak_model)):
            if not (isinstance(name, str) and name):
                raise InvalidArgumentError(f"{what} is a model's name, found {name!r}")
        if route_on not in get_args(Rule):
            raise InvalidArgumentError(f"route_on is one of {', '.join(get_args(Rule))}, found {route_on!r}")
        self.model_pair = ModelPair(strong_model, weak_model)
        self.api_base = api_base
        self.api_key = api_key
        self.progress_bar = progress_bar
        self.model_counts: defaultdict[str, defaultdict[str, int]] = defaultdict(_no_counts)
        self._own_servers = {
            True: _Server(strong_api_base, strong_api_key),
            False: _Server(weak_api_base, weak_api_key),
        }
        self._upstream = named_upstream(upstream)
        self._own_parts: list[OpenAIUpstream | RouterSet] = []
        if isinstance(self._upstream, OpenAIUpstream) and self._upstream is not upstream:
            self._own_parts.append(self._upstream)
        self._route_on: Rule = route_on
        self._counting = threading.Lock()
        if isinstance(routers, RouterSet):
            self.routers = routers
        else:
            self.routers = self._opened(routers, config)
            self._own_parts.append(self.routers)
        self.chat = SimpleNamespace(completions=SimpleNamespace(create=self.completion, acreate=self.acompletion))

    def completion(self, *, router: str | None = None, threshold: float | None = None, **request: Any) -> Any:
        """Route a chat and return the chosen model's answer.

        Args:
            router: The router's name, where no `model` is given.
            threshold: From which win rate on the strong model is asked, in [0, 1], where no `model` is given.
            **request: The request. Its `model` goes before router and threshold: `router-NAME-THRESHOLD`, or
                `router-NAME` for the router's calibrated threshold. `stream=True` returns an iterable of chunks.

        Returns:
            What the upstream returns: the openai package's ChatCompletion, or LiteLLM's ModelResponse.

        Raises:
            RoutingError: No router is named, an unknown one, or a threshold that is none.
            InvalidArgumentError: The messages are no chat, or the router has no calibrated threshold.
            RouteLLMError: The router cannot decide, e.g. as its embedder does not answer.
            MissingExtraError: The upstream is not installed.
            Exception: The upstream's own errors come as they are.
        """
        name = self._name(router, threshold, request)
        decision = self.routers.decide(self._text(request), name)
        return self._upstream.completion(**self._sent(name, decision), **_without_model(request))

    async def acompletion(self, *, router: str | None = None, threshold: float | None = None, **request: Any) -> Any:
        """Return `completion`'s answer; neither the decision nor the request keeps the event loop.

        Arguments, result and errors are those of completion; `stream=True` returns an asynchronous iterable.
        """
        name = self._name(router, threshold, request)
        decision = await self.routers.adecide(self._text(request), name)
        return await self._upstream.acompletion(**self._sent(name, decision), **_without_model(request))

    def route(self, prompt: str, router: str, threshold: float) -> str:
        """Return the name of the model that a prompt would be sent to; nothing is sent, and nothing counted.

        Raises:
            RoutingError: The router is unknown, or the threshold is none.
            RouteLLMError: The router cannot decide.
        """
        return self._model(self.routers.decide(prompt, self.routers.checked(router, threshold)))

    def batch_calculate_win_rate(self, prompts: Any, router: str) -> Any:
        """Return the strong model's win rates, in [0, 1], of n prompts.

        Args:
            prompts: A pandas Series, or any sequence of str.
            router: The router's name.

        Returns:
            For a Series, a Series of float64 with the same index and name; else (n,) float32.

        Raises:
            RoutingError: The router is unknown.
            RouteLLMError: The router cannot score.
            TypeError: An element is not str.
        """
        scored = self.routers[self.routers.checked(router, 0.0).router]
        is_series = type(prompts).__name__ == "Series" and type(prompts).__module__.partition(".")[0] == "pandas"
        texts = prompts.to_list() if is_series else prompts
        if self.progress_bar:
            with self._bar(f"Scoring with {router}", len(texts)) as moved_to:
                win_rates = score_in_batches(
                    scored.win_rates, texts, batch=_BATCH, name=router, on_progress=lambda done, _: moved_to(done)
                )
        else:
            win_rates = scored.win_rates(texts)
        if not is_series:
            return win_rates
        return type(prompts)(np.asarray(win_rates, dtype=np.float64), index=prompts.index, name=prompts.name)

    # --- connections

    def close(self) -> None:
        """Close connections and threads, but for those of an upstream or a RouterSet that was given."""
        for part in self._own_parts:
            part.close()

    async def aclose(self) -> None:
        """Close the connections that the running event loop has, and do as `close` does."""
        for part in self._own_parts:
            if isinstance(part, OpenAIUpstream):
                await part.aclose()
        self.close()

    def __enter__(self) -> Controller:
        """Return self."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close all connections."""
        self.close()

    async def __aenter__(self) -> Controller:
        """Return self."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close all connections."""
        await self.aclose()

    def __repr__(self) -> str:
        """Models and routers; no key."""
        strong, weak = self.model_pair
        return f"Controller(routers={list(self.routers)}, strong={strong!r}, weak={weak!r})"

    # --- the parts of a call

    def _name(self, router: str | None, threshold: float | None, request: Mapping[str, Any]) -> RouterName:
        if "model" in request:
            return self.routers.parse(request["model"])
        return self.routers.checked(router, threshold)

    def _text(self, request: Mapping[str, Any]) -> str:
        return text_of(request.get("messages"), rule=self._route_on)  # type: ignore[arg-type] # it checks

    def _sent(self, name: RouterName, decision: Decision) -> dict[str, Any]:
        """Count a decision, and return the arguments by which the upstream is told of it."""
        model = self._model(decision)
        with self._counting:
            self.model_counts[name.router][model] += 1
        own = self._own_servers[decision.is_strong]
        api_base = self.api_base if own.api_base is None else own.api_base
        # A key belongs to an address: what was given for the common one is nothing that another server may see.
        api_key = self.api_key if own == (None, None) else own.api_key
        return {"model": model, "api_base": api_base, "api_key": api_key}

    def _model(self, decision: Decision) -> str:
        # By the place and not by the name: a router that is behind Triton has names of its own.
        return self.model_pair.strong if decision.is_strong else self.model_pair.weak

    def _opened(
        self, routers: Sequence[str] | Mapping[str, Any], config: Mapping[str, Any] | str | Path | None
    ) -> RouterSet:
        by_name = read_config(config) if isinstance(config, (str, Path)) else config
        pair = self.model_pair if self.model_pair.strong != self.model_pair.weak else None
        if not self.progress_bar:
            return load_routers(routers, config=by_name, model_pair=pair)
        with self._bar("Loading routers", len(routers)) as moved_to:
            opened: list[str] = []

            def opening(name: str) -> None:
                moved_to(len(opened))
                opened.append(name)

            return load_routers(routers, config=by_name, model_pair=pair, on_router=opening)

    @contextmanager
    def _bar(self, what: str, total: int) -> Iterator[Callable[[int], None]]:
        """Show a bar on a terminal; yield what moves it to a number."""
        tqdm = require("tqdm", "openai").tqdm
        with tqdm(total=total, desc=what, delay=_BAR_DELAY_S, disable=None) as bar:

            def moved_to(done: int) -> None:
                bar.update(done - bar.n)

            yield moved_to
            moved_to(total)


def _no_counts() -> defaultdict[str, int]:
    return defaultdict(int)


def _without_model(request: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in request.items() if name != "model"}
