"""What the gateway's YAML file may hold. Keys that are not named here are refused."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Annotated, Any, Final, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator, model_validator

from routellm_fast.decision import NoText
from routellm_fast.endpoints import checked_url
from routellm_fast.errors import InvalidArgumentError
from routellm_fast.gateway.languages import known_languages
from routellm_fast.gateway.patterns import regex
from routellm_fast.prices import ModelPrice
from routellm_fast.serving.triton_protocol import DEFAULT_NAME

Share: TypeAlias = Annotated[float, Field(ge=0.0, le=1.0)]
Seconds: TypeAlias = Annotated[float, Field(gt=0.0, le=86_400.0)]
Count: TypeAlias = Annotated[int, Field(ge=1, le=10_000_000)]
Usd: TypeAlias = Annotated[float, Field(ge=0.0, le=1e12)]
# Names of models and routers go into headers, labels and addresses.
Name: TypeAlias = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[!-~]+$")]
Dialect: TypeAlias = Literal["openai", "anthropic"]
_ROUTER_PREFIX: Final = "router-"


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True, allow_inf_nan=False)


class Listen(_Section):
    """Where the gateway accepts connections.

    Attributes:
        host: The address to bind to; only this machine unless another is named.
        port: The TCP port; 0 lets the system choose.
    """

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65_535)] = 6060


class UpstreamSettings(_Section):
    """A server of models.

    Attributes:
        base_url: Its address up to and without `/chat/completions` and the like, e.g. https://api.openai.com/v1.
        dialect: What it speaks: OpenAI's API, or Anthropic's.
        api_key_env: The environment variable that holds its key.
        api_key_file: The file that holds its key, which is read again at each reload.
        headers: Further headers of each request to it.
        connect_timeout_s: How long connecting may take.
        silence_timeout_s: How long it may send nothing, before an answer or within one.
        total_timeout_s: How long a whole answer may take.
        max_connections: The most connections to it at once; further requests wait.
    """

    base_url: str
    dialect: Dialect = "openai"
    api_key_env: str | None = None
    api_key_file: str | None = None
    headers: Mapping[str, str] = Field(default_factory=dict)
    connect_timeout_s: Seconds = 5.0
    silence_timeout_s: Seconds = 300.0
    total_timeout_s: Seconds = 1800.0
    max_connections: Count = 2_000

    @field_validator("base_url")
    @classmethod
    def _is_address(cls, value: str) -> str:
        return checked_url(value)

    @model_validator(mode="after")
    def _has_one_key(self) -> UpstreamSettings:
        if self.api_key_env and self.api_key_file:
            raise InvalidArgumentError("give the key by api_key_env or by api_key_file, not by both")
        return self


class ModelSettings(_Section):
    """A model that answers requests.

    Attributes:
        upstream: The server that has it.
        name: Its name there; None where that is its name here.
        input_usd_per_1m: US dollars a million input tokens.
        output_usd_per_1m: US dollars a million output tokens.
        cached_input_usd_per_1m: US dollars a million input tokens that the server had in its prompt cache; None where
            they cost as much as others.
        request_usd: US dollars a request, whatever its length.
    """

    upstream: Name
    name: str | None = None
    input_usd_per_1m: Usd = 0.0
    output_usd_per_1m: Usd = 0.0
    cached_input_usd_per_1m: Usd | None = None
    request_usd: Usd = 0.0

    @property
    def has_price(self) -> bool:
        """Whether any price is given."""
        return any((self.input_usd_per_1m, self.output_usd_per_1m, self.request_usd))

    @property
    def price(self) -> ModelPrice:
        """What a request costs without a prompt cache."""
        return _price(self.input_usd_per_1m, self.output_usd_per_1m, self.request_usd)

    def cost_usd(self, input_tokens: int, output_tokens: int, cached_tokens: int = 0) -> float:
        """Return the US dollars that a request costs, of whose input tokens some were in the server's prompt cache."""
        cached_usd = self.input_usd_per_1m if self.cached_input_usd_per_1m is None else self.cached_input_usd_per_1m
        saved_usd = min(cached_tokens, input_tokens) * (self.input_usd_per_1m - cached_usd) / 1e6
        return self.price.cost_usd(float(input_tokens), float(output_tokens)) - saved_usd


class PoolSettings(_Section):
    """More than two models for one router of kind mf, as `routellm_fast.pool` chooses them.

    Attributes:
        models: The models; each with the name of a model of the router that it is scored as, or null for its own name.
        tau: A model may answer where its win rate against the best model is at least 1 - tau.
        best_model: The model that the others are compared with; None: the best on each prompt.
    """

    models: Annotated[Mapping[Name, str | None], Field(min_length=2)]
    tau: Share = 0.6
    best_model: Name | None = None


class RouterSettings(_Section):
    """A router and how it is used.

    At most one of threshold, strong_share and monthly_budget_usd is given; with none of them the router's calibrated
    default holds.

    Attributes:
        source: "mf" or "sw_ranking" for a router that ships, "random", a router directory, or the addresses of a Triton
            server's replicas, each http://host:port or grpc://host:port, separated by commas; or a mapping, as
            RouteLLM's configuration has it for a router.
        digest: The directory's digest, which is then checked; None checks none.
        allow_server: The embedding server that the directory may name; see load_router.
        triton_model: The router's name on the Triton server.
        strong: The strong model.
        weak: The weak model.
        pool: More than two models; strong and weak are then not given.
        threshold: Win rates of at least this go to the strong model.
        strong_share: The share of requests that is to go to the strong model, by the router's calibration.
        monthly_budget_usd: US dollars that both models may cost in a calendar month (UTC).
        no_text: What is done with a request without text: the strong model, the weak one, or scored as "".
        shadow: Decide and record, but send all to the strong model.
    """

    source: str | Mapping[str, Any] = "mf"
    digest: str | None = None
    allow_server: str | None = None
    triton_model: str = DEFAULT_NAME
    strong: Name | None = None
    weak: Name | None = None
    pool: PoolSettings | None = None
    threshold: Share | None = None
    strong_share: Share | None = None
    monthly_budget_usd: Annotated[float, Field(gt=0.0, le=1e12)] | None = None
    no_text: NoText = "strong"
    shadow: bool = False

    @model_validator(mode="after")
    def _is_one_policy(self) -> RouterSettings:
        goals = ("threshold", "strong_share", "monthly_budget_usd")
        given = [name for name in goals if getattr(self, name) is not None]
        if len(given) > 1:
            raise InvalidArgumentError(f"give one of {', '.join(goals)}, found {' and '.join(given)}")
        if self.pool is None and not (self.strong and self.weak):
            raise InvalidArgumentError("name both models by strong and weak, or more than two by pool")
        if self.pool is not None and (self.strong or self.weak or given or self.shadow):
            raise InvalidArgumentError("a pool has its own models and tau: leave out strong, weak, shadow and the goal")
        if self.strong is not None and self.strong == self.weak:
            raise InvalidArgumentError(f"strong and weak are both {self.strong!r}: name two models")
        return self

    @property
    def models(self) -> tuple[str, ...]:
        """Every model that this router may choose."""
        if self.pool is not None:
            return tuple(self.pool.models)
        return (self.strong or "", self.weak or "")

    @property
    def strong_models(self) -> tuple[str, ...]:
        """The models of which the most expensive is what a saving is measured against."""
        return tuple(self.pool.models) if self.pool is not None else (self.strong or "",)


class Condition(_Section):
    """What a request must be for a rule to hold: all that is given must be true.

    Attributes:
        model: The model's name that the client asked for; `*` stands for any characters.
        client: The client's name in `clients`.
        header: Patterns of headers by name; `*` stands for any characters.
        tools: Whether tools are offered or were used.
        image: Whether there is an image.
        audio: Whether there is audio.
        min_chars: The least length of the text that is routed on.
        max_chars: The greatest length.
        min_turns: The least number of messages.
        regex: A regular expression in RE2's syntax that is found in the text's first 10,000 characters.
        language: ISO 639-1 codes, one of which the text is in; a text whose language is not clear, such as one of a
            word or two, is in none.
    """

    model: str | None = None
    client: str | None = None
    header: Mapping[str, str] = Field(default_factory=dict)
    tools: bool | None = None
    image: bool | None = None
    audio: bool | None = None
    min_chars: Annotated[int, Field(ge=0)] | None = None
    max_chars: Annotated[int, Field(ge=0)] | None = None
    min_turns: Annotated[int, Field(ge=0)] | None = None
    regex: Annotated[str, StringConstraints(strip_whitespace=False)] | None = None
    language: tuple[str, ...] = ()

    @field_validator("regex")
    @classmethod
    def _can_be_compiled(cls, value: str | None) -> str | None:
        if value is not None:
            regex(value)
        return value

    @field_validator("language")
    @classmethod
    def _is_known(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        unknown = sorted(set(value) - known_languages()) if value else []
        if unknown:
            known = ", ".join(sorted(known_languages()))
            raise InvalidArgumentError(f"no language that can be told apart: {', '.join(unknown)}. There are: {known}")
        return value

    @model_validator(mode="after")
    def _asks_something(self) -> Condition:
        if all(getattr(self, name) in (None, {}, ()) for name in type(self).model_fields):
            raise InvalidArgumentError(f"give at least one condition: {', '.join(type(self).model_fields)}")
        if self.min_chars is not None and self.max_chars is not None and self.min_chars > self.max_chars:
            raise InvalidArgumentError(f"no text has {self.min_chars} characters or more and {self.max_chars} or fewer")
        return self


class RuleSettings(_Section):
    """A rule before the router. The first that holds decides.

    Attributes:
        name: What headers, metrics and logs call it.
        when: What must be true.
        use: "strong" or "weak" of the router that was asked for, or the name of a model.
    """

    name: Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[A-Za-z0-9_.-]+$")]
    when: Condition
    use: Name


class SessionSettings(_Section):
    """Whether a conversation stays with its model, whose server has its beginning in the prompt cache.

    The threshold is moved by what changing the model would cost: see gateway/sessions.py.

    Attributes:
        header: A request header that names the conversation; without it the conversation's beginning names it.
        ttl_s: How long a server keeps a conversation in its prompt cache.
        max_sessions: The most conversations that are remembered; the oldest are forgotten.
    """

    header: str = "x-session-id"
    ttl_s: Seconds = 300.0
    max_sessions: Count = 100_000


class FailureSettings(_Section):
    """What happens when a router or an upstream fails.

    Attributes:
        router: Where requests go when the router cannot decide: the strong model, the weak one, or "fail" (status 503).
        retries: How often a request is sent again to the same model, where nothing of an answer has reached the client.
        backoff_s: The pause before the first retry; it doubles each time. A server's Retry-After is kept instead.
        max_backoff_s: The longest pause; where a server asks for a longer one there is no retry.
        retry_statuses: Answers that are retried.
        other_model: Whether the other model is asked at last.
        breaker_failures: Failures in a row after which an upstream is not asked for a while.
        breaker_open_s: How long it is not asked.
    """

    router: Literal["strong", "weak", "fail"] = "strong"
    retries: Annotated[int, Field(ge=0, le=10)] = 1
    backoff_s: Annotated[float, Field(ge=0.0, le=60.0)] = 0.25
    max_backoff_s: Annotated[float, Field(ge=0.0, le=600.0)] = 8.0
    retry_statuses: tuple[Annotated[int, Field(ge=400, le=599)], ...] = (408, 409, 429, 500, 502, 503, 504, 529)
    other_model: bool = True
    breaker_failures: Count = 5
    breaker_open_s: Seconds = 15.0


class MirrorSettings(_Section):
    """A sample of requests goes to both models; the second answer is counted and logged, and goes nowhere.

    Attributes:
        share: The share of routed requests that is mirrored.
        max_in_flight: The most mirrored requests at once; further ones are not mirrored.
    """

    share: Share = 0.0
    max_in_flight: Count = 20


class LimitSettings(_Section):
    """Bounds of what a client may ask.

    Attributes:
        max_body_bytes: The largest body.
        max_head_bytes: The most bytes of a request's first line and headers.
        head_timeout_s: How long a client may take to send them.
        max_in_flight: The most requests at once in a worker; further ones get status 429 with Retry-After.
        max_in_flight_per_client: The same for one client of `clients`.
        body_timeout_s: How long a client may take to send a body.
        shutdown_s: How long answers that are under way may take when the gateway is stopped.
    """

    max_body_bytes: Annotated[int, Field(ge=1_000, le=2_000_000_000)] = 50_000_000
    max_head_bytes: Annotated[int, Field(ge=1_000, le=10_000_000)] = 65_536
    head_timeout_s: Seconds = 20.0
    max_in_flight: Count = 2_000
    max_in_flight_per_client: Count | None = None
    body_timeout_s: Seconds = 60.0
    shutdown_s: Seconds = 60.0


class ClientSettings(_Section):
    """A client that may use the gateway. With no client in the file, everybody who reaches it may.

    Attributes:
        name: What metrics, logs and rules call it.
        key_sha256: SHA-256 of its key, 64 hexadecimal digits; `routellm-fast serve --new-key` makes a key and this.
    """

    name: Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[A-Za-z0-9_.-]+$")]
    key_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class LogSettings(_Section):
    """The log, one JSON object a line on standard error.

    Attributes:
        requests: Whether each request gets a line.
        prompts: Whether these lines hold the text that was routed on.
    """

    requests: bool = True
    prompts: bool = False


@lru_cache(maxsize=1024)  # every answer asks
def _price(input_usd_per_1m: float, output_usd_per_1m: float, request_usd: float) -> ModelPrice:
    return ModelPrice(input_usd_per_1m, output_usd_per_1m, request_usd)


class Settings(_Section):
    """All that the gateway's file says.

    Attributes:
        listen: Where the gateway accepts connections.
        upstreams: Servers of models by name.
        models: Models by name.
        routers: Routers by name: `mf` is asked as model `router-mf`, or `router-mf-0.4` with a threshold.
        aliases: Further names of models and routers.
        rules: Rules before the router.
        sessions: Whether conversations stay with their model; None: each request is routed for itself.
        on_failure: What happens when a router or an upstream fails.
        mirror: Requests that go to both models.
        limits: Bounds of what a client may ask.
        clients: Who may use the gateway.
        log: The log.
        state_dir: Where budgets and conversations are kept on disk; None: in a temporary directory.
    """

    listen: Listen = Listen()
    upstreams: Annotated[Mapping[Name, UpstreamSettings], Field(min_length=1)]
    models: Annotated[Mapping[Name, ModelSettings], Field(min_length=1)]
    routers: Annotated[Mapping[Name, RouterSettings], Field(min_length=1)]
    aliases: Mapping[Name, Name] = Field(default_factory=dict)
    rules: tuple[RuleSettings, ...] = ()
    sessions: SessionSettings | None = None
    on_failure: FailureSettings = FailureSettings()
    mirror: MirrorSettings = MirrorSettings()
    limits: LimitSettings = LimitSettings()
    clients: tuple[ClientSettings, ...] = ()
    log: LogSettings = LogSettings()
    state_dir: str | None = None
