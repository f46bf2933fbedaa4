"""Services that speak OpenAI's API: their address, the key that each may see, and what went wrong, in words.

A key is read by `ApiKey.reveal` alone, and what a server wrote is shown only after `shown` has cut keys out of it.
Values in an address's query may be secrets too, so `shown_server` leaves them out.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode, urljoin, urlsplit

from routellm_fast.errors import EndpointError, InvalidArgumentError, UntrustedServerError

OPENAI_URL: Final = "https://api.openai.com/v1"
_KEY_VARIABLE: Final = "OPENAI_API_KEY"
_URL_VARIABLE: Final = "OPENAI_BASE_URL"
_HEADER_SAFE: Final = re.compile("[!-~]+")
_SHORTEST_SECRET: Final = 8
_MAX_SHOWN_CHARS: Final = 300
# The one value in a query that errors show: a version is no secret, and a wrong one is a frequent fault.
_SHOWN_IN_QUERY: Final = "api-version"
# Words in the name of a parameter that holds a key. An address is stored and shown, so it must not hold one.
_NAMES_OF_KEYS: Final = frozenset(
    {
        "accesskey", "accesstoken", "apikey", "apitoken", "auth", "authorization", "authtoken", "bearer",
        "clientsecret", "code", "credential", "credentials", "jwt", "key", "passwd", "password", "pwd", "sas",
        "sastoken", "secret", "secretkey", "sig", "signature", "subscriptionkey", "token",
    }
)  # fmt: skip
# Statuses of an answer that refuses the form of a request: in another form it may be taken.
FORM_STATUSES: Final = frozenset({400, 413, 415, 422})


# --- addresses


def checked_url(url: str) -> str:
    """Return the address in its plainest form: lower-case host, no slash at the end of the path, and its query.

    Raises:
        InvalidArgumentError: Not http or https, no host, a fragment, a parameter given twice, or credentials (as a user
            name, a password or a parameter such as `api_key`), which are not repeated.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise InvalidArgumentError(f"base_url is no address: {error}") from None
    if "@" in parts.netloc:
        raise InvalidArgumentError("base_url must hold no user name or password: give the key as api_key")
    if parts.scheme not in ("http", "https") or not host or parts.fragment:
        raise InvalidArgumentError(f"base_url must be like http://localhost:8000/v1, found {shown_server(url)!r}")
    query = parse_qsl(parts.query, keep_blank_values=True)
    for index, (name, _) in enumerate(query):
        if not _NAMES_OF_KEYS.isdisjoint(re.split("[^a-z]+", name.lower())):
            raise InvalidArgumentError(
                f"base_url must hold no key, but its query has the parameter {name!r}: give the key as api_key"
            )
        if name in (other for other, _ in query[:index]):
            raise InvalidArgumentError(f"the query of base_url has the parameter {name!r} twice: give it once")
    host = f"[{host}]" if ":" in host else host
    address = f"{parts.scheme}://{host}{'' if port is None else f':{port}'}{parts.path.rstrip('/')}"
    return f"{address}?{urlencode(query)}" if query else address


def address_of(server: str) -> str:
    """Return a server's checked address without its query."""
    return server.partition("?")[0]


def client_address(server: str) -> dict[str, Any]:
    """Return the arguments by which the openai package's clients ask a checked address, its query in each request."""
    query = dict(parse_qsl(server.partition("?")[2], keep_blank_values=True))
    return {"base_url": address_of(server), "default_query": query}


def shown_server(server: str, path: str = "") -> str:
    """Return what errors show of an address, with a path at its end: of its query the names, and the API's version."""
    address, mark, query = server.partition("?")
    pairs = parse_qsl(query.partition("#")[0], keep_blank_values=True)
    shown_pairs = (f"{name}={value if name.lower() == _SHOWN_IN_QUERY else '...'}" for name, value in pairs)
    return f"{address}{path}{mark}{'&'.join(shown_pairs)}"


def query_secrets(server: str) -> frozenset[ApiKey]:
    """Return the values in an address's query that no text may show."""
    pairs = parse_qsl(server.partition("?")[2])
    return frozenset(ApiKey(value) for name, value in pairs if name.lower() != _SHOWN_IN_QUERY)


def is_openai(url: str) -> bool:
    """Tell whether a checked address is one of OpenAI's own, which may see its keys."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    return parts.scheme == "https" and (host == "api.openai.com" or host.endswith(".api.openai.com"))


def may_see_environment(server: str) -> bool:
    """Tell whether a checked address may be sent what environment variables hold for OpenAI, such as keys.

    OpenAI's own addresses may, and the one that OPENAI_BASE_URL names. Any other may have come from anywhere.
    """
    return is_openai(server) or _is_environment_server(server)


def allowed_servers(named: str | Iterable[str] | None) -> tuple[str, ...]:
    """Return the addresses that a caller allows a directory to name, without their queries; None names none.

    Raises:
        InvalidArgumentError: One of them is no address; see checked_url.
    """
    urls = [named] if isinstance(named, str) else list(named or ())
    return tuple(address_of(checked_url(url)) for url in urls)


def check_allowed(server: str, allowed: Collection[str]) -> None:
    """Check that an address which was read from a directory may be asked.

    Addresses that may see the environment are allowed. The query of an address does not matter.

    Args:
        server: The checked address.
        allowed: What allowed_servers returned.

    Raises:
        UntrustedServerError: It is not among them.
    """
    if may_see_environment(server) or address_of(server) in allowed:
        return
    found = shown(shown_server(server))
    others = f", and only {', '.join(map(shown, allowed))} was allowed" if allowed else ""
    raise UntrustedServerError(
        f"texts would be sent to the embedding server {found}, which this directory names{others}. Whoever made the "
        f"directory chose that address: if you trust it with your prompts, allow it by "
        f"allow_server={shown(address_of(server))!r} (--allow-server); or give your own embedder"
    )


def named_server(base_url: str | None) -> str | None:
    """Return the checked address that is named: base_url, else OPENAI_BASE_URL; None where neither is given.

    Raises:
        InvalidArgumentError: See checked_url.
    """
    url = base_url or os.environ.get(_URL_VARIABLE)
    return checked_url(url) if url else None


def server_of(base_url: str | None) -> str:
    """Return named_server of base_url, and OpenAI's own address where none is named."""
    return named_server(base_url) or OPENAI_URL


def checked_timeout_s(timeout_s: float) -> float:
    """Return a time-out in seconds. Raises InvalidArgumentError unless it is above 0 and finite."""
    if not 0.0 < timeout_s < math.inf:
        raise InvalidArgumentError(f"timeout_s must be above 0 and finite, found {timeout_s}")
    return timeout_s


# --- keys


class ApiKey:
    """A key that no dump of variables shows. Immutable and thread-safe."""

    __slots__ = ("_forms", "_value")

    def __init__(self, value: str | None = None) -> None:
        """Keep a key without the blanks around it; None or an empty text for none."""
        self._value = (value or "").strip()
        self._forms: re.Pattern[str] | None = None  # made when a text is scrubbed

    def __bool__(self) -> bool:
        return bool(self._value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ApiKey) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)

    def reveal(self) -> str:
        """Return the key itself; "none" where there is none, since clients insist on one."""
        return self._value or "none"

    def scrub(self, text: str) -> str:
        """Return the text without the key, plain or escaped as in JSON, HTML or an address: servers repeat it."""
        # "EMPTY" and the like, which local servers are given, are no secrets, and may be words of an answer.
        if len(self._value) < _SHORTEST_SECRET:
            return text
        if self._forms is None:
            self._forms = re.compile("".join(map(_any_form, re.findall(r"\\+|.", self._value))))
        return self._forms.sub("[key]", text)

    def __repr__(self) -> str:
        return "ApiKey(set)" if self._value else "ApiKey(none)"


def _any_form(characters: str) -> str:
    """Return a pattern of a character as it is, percent-encoded, or escaped as in JSON or HTML, once or repeatedly.

    A run of backslashes is one piece, as escaping lengthens it. All repetitions are bounded, and no two that follow
    one another match the same text: a server must not choose how long the search takes.
    """
    code = ord(characters[0])
    digits = "".join(f"[{digit}{digit.upper()}]" for digit in f"{code:02x}")
    names = {"&": "|amp", "<": "|lt", ">": "|gt", '"': "|quot", "'": "|apos"}
    html = rf"&(?:amp;){{0,4}}(?:\#0{{0,8}}{code}|\#[xX]0{{0,8}}{digits}{names.get(characters[0], '')});"
    encoded = rf"{html}|%(?:25){{0,4}}{digits}|\\{{1,8}}u00{digits}"
    count = len(characters)
    if characters[0] == "\\":
        return rf"(?:\\{{{count},{8 * count}}}|(?:{encoded}){{{count}}})"
    return rf"(?:{encoded}|\\{{0,8}}{re.escape(characters)})"


def key_for(server: str, *, given: ApiKey | None = None, variable: str | None = None) -> ApiKey:
    """Return the key for a server.

    OPENAI_API_KEY goes only to servers that may_see_environment. Any other server gets the key given for it, or that of
    the variable named for it, or none.

    Args:
        server: Its checked address.
        given: The key itself, which goes before any variable.
        variable: Name of the environment variable that holds the key.

    Raises:
        InvalidArgumentError: The named variable is not set.
        EndpointError: OpenAI needs a key and there is none, or the key cannot be sent.
    """
    key = given or ApiKey()
    name = shown_server(server)
    if not key and variable is not None:
        key = ApiKey(os.environ.get(variable))
        if not key:
            raise InvalidArgumentError(
                f"the environment variable {variable}, which should hold the key for {name}, is not set"
            )
    if not key and may_see_environment(server):
        key = ApiKey(os.environ.get(_KEY_VARIABLE))
    if key and not _HEADER_SAFE.fullmatch(key.reveal()):
        raise EndpointError(
            f"the key for {name} holds blanks or characters beyond ASCII, which no header can carry: check for typos"
        )
    if not key and is_openai(server):
        raise EndpointError(
            f"no key for {name}: pass api_key= or set {_KEY_VARIABLE}, or name the variable that holds it"
        )
    return key


def _is_environment_server(server: str) -> bool:
    try:
        named = named_server(None)
    except InvalidArgumentError:
        return False
    return named is not None and address_of(named) == address_of(server)


# --- refusals: what their servers wrote

# Under these names servers give their reason, the plainest first.
_REASON_NAMES: Final = ("message", "msg", "detail", "error", "reason", "errors", "error_description", "title")
# Under these, what of the request the reason is about.
_PLACE_NAMES: Final = ("loc", "param")
_MAX_DEPTH: Final = 5
_MAX_REASONS: Final = 20
# Wordings by which a server says that it does not know a parameter, or does not take the value that it was sent. A
# value out of its range is another matter: what the caller chose is then wrong.
_NOT_TAKEN: Final = re.compile(
    r"unsupported|not (be )?(support|permit|allow|accept|available|implement|enabled|exist|recogni|used)"
    r"|n't (be )?(support|permit|allow|accept|exist|recogni)|unrecogni[sz]ed|unknown|unexpected"
    r"|(extra|additional) (input|field|param|propert)|instead|deprecated|invalid parameter"
    r"|only (be set to|the default|supports?|accepts?|\S+ is)",
    re.IGNORECASE,
)


def refusal_reason(error: Any) -> str:
    """Return what the server wrote about a refused request, "" where it wrote nothing; of a redirect, where it leads.

    Args:
        error: openai.APIStatusError.
    """
    if is_redirect(int(error.status_code)):
        return _redirect_target(error)
    try:
        return reason_of(error.response.content)
    except RuntimeError:  # the answer was not read to its end, as a hook of the caller's client raised before
        return reason_of(error.body)


def is_redirect(status: int) -> bool:
    """Tell whether an answer sends the caller elsewhere. Requests that carry texts and keys do not follow it."""
    return 300 <= status < 400


def _redirect_target(error: Any) -> str:
    location = str(error.response.headers.get("location", ""))
    try:
        address = urljoin(str(error.request.url), location)
        parts = urlsplit(address)
        plain = parts._replace(netloc=parts.netloc.rpartition("@")[2], fragment="").geturl()
    except ValueError:
        return "a redirect to no address"
    return f"a redirect to {shown_server(plain)}" if location else "a redirect to nowhere"


def asked_pause_s(headers: Mapping[str, str], now_s: float) -> float | None:
    """Return for how many seconds an answer asks to wait; None where it does not, or asks for nonsense.

    Args:
        headers: The answer's headers: `retry-after-ms` in milliseconds, `retry-after` in seconds or as a date.
        now_s: Seconds since 1970.
    """
    import email.utils  # with what it imports in turn it takes longer than the rest of this module

    for name, units_per_s in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        value = headers.get(name, "").strip()
        try:
            seconds = float(value) / units_per_s
        except ValueError:
            try:
                seconds = email.utils.parsedate_to_datetime(value).timestamp() - now_s
            except (TypeError, ValueError, OverflowError):
                continue
        if 0.0 <= seconds < math.inf:
            return seconds
    return None


def reason_of(body: object) -> str:
    """Return the reason in the body of a refusal, "" where there is none.

    Servers write plain text, a JSON string, or a JSON object with `message`, `detail`, `error` and the like, which may
    be texts, objects or lists. Where no usual name is found, all that the body holds is returned.

    Args:
        body: The body's bytes, or the JSON value in it.
    """
    value = _json_of(body) if isinstance(body, bytes) else body
    return "; ".join(dict.fromkeys(_reasons(value, _MAX_DEPTH)[:_MAX_REASONS]))


def _json_of(body: bytes) -> object:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return body.decode(errors="replace")


def _reasons(body: object, depth: int) -> list[str]:
    if isinstance(body, str):
        return [body.strip()] if body.strip() else []
    if depth == 0 or body is None or isinstance(body, bool):
        return []
    if isinstance(body, Mapping):
        found = [text for name in _REASON_NAMES for text in _reasons(body.get(name), depth - 1)]
        if not found:
            found = [f"{name}: {text}" for name, value in body.items() for text in _reasons(value, depth - 1)]
        place = next((place for name in _PLACE_NAMES if (place := _place(body.get(name)))), "")
        return [text if not place or place.rpartition(".")[2] in text else f"{place}: {text}" for text in found]
    if isinstance(body, list):
        return [text for entry in body[:_MAX_REASONS] for text in _reasons(entry, depth - 1)]
    return [str(body)]


def _place(value: object) -> str:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ".".join(str(part) for part in value if isinstance(part, (str, int)))
    return value if isinstance(value, str) else ""


def refuses_parameter(reason: str, name: str) -> bool:
    """Tell whether a reason says that the server does not take a parameter (name in lower case), or not its value."""
    return name in reason.lower() and _NOT_TAKEN.search(reason) is not None


def refuses_some_parameter(reason: str) -> bool:
    """Tell whether a reason says that the server does not take a parameter, and not which."""
    return re.search(r"param|field|argument|propert|extra input", reason, re.IGNORECASE) is not None and (
        _NOT_TAKEN.search(reason) is not None
    )


# --- failures, in words that follow the address


def shown(text: str, *keys: ApiKey) -> str:
    """Return what may be shown of a text that a server wrote: without keys, on one line, 300 characters at most."""
    for key in keys:  # before the text is cut: half a key is too much
        text = key.scrub(text)
    text = " ".join(text.encode(errors="replace").decode().split())
    return text if len(text) <= _MAX_SHOWN_CHARS else f"{text[:_MAX_SHOWN_CHARS]}..."


def refused(status: int, asked: str, said: str, *, shorten: str = "shorten it") -> str:
    """Return what an answer of status 400 and above says, and what to do.

    Args:
        status: The HTTP status.
        asked: What the request was for, e.g. "for model 'm'".
        said: What may be shown of the answer; "" where it says nothing.
        shorten: How a text that is too long is made shorter.
    """
    said = said if said.endswith("...") else said.removesuffix(".")
    return f"answered status {status} {asked}: {said or 'it gives no reason'}. {_advice(status, shorten)}."


def silent(timeout_s: float, attempts: int = 1) -> str:
    """Return that a server did not answer in time, and what to do."""
    return f"gave no answer within {timeout_s:g} s{_tried(attempts)}. Try later, or give a larger timeout_s."


def unreachable(cause: BaseException, said: str, attempts: int = 1) -> str:
    """Return that a connection failed, and what to do; `said` is what may be shown of the cause."""
    return (
        f"cannot be reached{_tried(attempts)}: {type(cause).__name__}: {said}. "
        "Check base_url, the network and whether the server runs."
    )


def _tried(attempts: int) -> str:
    return f", {attempts} attempts" if attempts > 1 else ""


def _advice(status: int, shorten: str) -> str:
    if is_redirect(status):
        return (
            "Redirects are not followed, as texts and key would go along: if you trust that address, name it as "
            "base_url, without /embeddings or /chat/completions at its end"
        )
    if status in (401, 403):
        return (
            f"Check the key: api_key=, or the variable that holds it; {_KEY_VARIABLE} goes only to OpenAI and to the "
            f"server of {_URL_VARIABLE}"
        )
    if status == 402:
        return "The account has no money left"
    if status == 404:
        return "Check base_url and the model's name"
    if status in FORM_STATUSES:
        return f"A text may be longer than the model takes ({shorten}), or the model may not take these parameters"
    if status == 429:
        return "Rate limit or quota: try later, send less at once, or raise max_retries"
    return "The server is at fault: try later" if status >= 500 else "Try later"
