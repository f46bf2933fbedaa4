"""The same calls to Controllers, whoever made them: `python calls.py RUNS` prints what came of each, as JSON.

RUNS is a JSON list of the modules that have a Controller, each with the Controller's arguments. It runs in an
environment that may hold no pytest.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import random
import sys
from collections.abc import Callable
from typing import Any

TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}
RICH: dict[str, Any] = {
    "messages": [
        {"role": "system", "content": "Be brief."},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "What is this?"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}},
            ],
        },
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}],
        },
        {"role": "tool", "tool_call_id": "1", "content": "Sunny."},
    ],
    "tools": [TOOL],
    "tool_choice": {"type": "function", "function": {"name": "weather"}},
    "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}}},
    "temperature": 0.5,
    "max_tokens": 9,
    "stop": ["\n"],
    "seed": 7,
    "user": "me",
}
# Names and arguments that RouteLLM refuses.
WRONG: tuple[dict[str, Any], ...] = (
    {"model": "gpt-4-1106-preview"},
    {"model": "gpt-4-0613"},
    {"model": "router-none-0.5"},
    {"model": "router-none-high"},
    {"model": "router-random-high"},
    {"model": "router-random-1.5"},
    {"model": "router-random--0.5"},
    {"model": "router-random-nan"},
    {"model": "router-random-inf"},
    {},
    {"router": "random"},
    {"threshold": 0.5},
    {"router": "none", "threshold": 0.5},
    {"router": "random", "threshold": 2},
    {"router": "random", "threshold": -0.25},
    {"router": "random", "threshold": float("nan")},
)
RIGHT = ("router-random-0.5", "router-random-0", "router-random-1", "router-random-1e-1", "routers-random-0.5")
PROMPTS = ("hello", "Prove that there are infinitely many primes.", "", "x" * 300)


def outcome(call: Callable[..., Any], *arguments: Any, seed: int = 0) -> Any:
    random.seed(seed)  # before each call: LiteLLM draws numbers too, when it likes
    try:
        return call(*arguments)
    except Exception as error:  # noqa: BLE001 - what is raised is the result
        return [type(error).__name__, str(error)]


def told(answer: Any) -> Any:
    message = answer.choices[0].message
    calls = [(call.function.name, call.function.arguments) for call in message.tool_calls or ()]
    return [answer.model, message.content, calls, answer.usage.total_tokens]


def streamed(chunks: Any) -> str:
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks)


async def in_event_loop(client: Any) -> list[Any]:
    found: list[Any] = []
    for seed, name in enumerate(RIGHT * 3):
        random.seed(seed)
        found.append(told(await client.chat.completions.acreate(model=name, messages=user("hello"))))
    random.seed(1)
    stream = await client.acompletion(model="router-random-0.5", messages=user("hello"), stream=True)
    found.append("".join([chunk.choices[0].delta.content or "" async for chunk in stream]))
    random.seed(2)
    found.append(told(await client.acompletion(router="random", threshold=0.5, **RICH)))
    for wrong in WRONG:
        try:
            found.append(told(await client.acompletion(messages=user("hello"), **wrong)))
        except Exception as error:  # noqa: BLE001
            found.append([type(error).__name__, str(error)])
    if hasattr(client, "aclose"):
        await client.aclose()
    return found


def user(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def results(client: Any, mf_thresholds: list[float]) -> dict[str, Any]:
    import pandas

    def chat(request: dict[str, Any]) -> Any:
        return told(client.chat.completions.create(**{"messages": user("hello"), **request}))

    found: dict[str, Any] = {"attributes": [client.model_pair.strong, client.model_pair.weak, sorted(client.routers)]}
    found["wrong"] = [outcome(chat, wrong) for wrong in WRONG]
    found["right"] = [outcome(chat, {"model": name}, seed=seed) for name in RIGHT for seed in range(5)]
    found["apart"] = outcome(chat, {"router": "random", "threshold": 0.5, "max_tokens": 5})
    found["rich"] = [outcome(chat, {"model": "router-random-0.5", **RICH}, seed=seed) for seed in range(3)]
    stream = {"model": "router-random-0.5", "messages": user("hello"), "stream": True}
    found["stream"] = outcome(lambda: streamed(client.completion(**stream)))
    found["route"] = [outcome(client.route, "hello", "random", 0.5, seed=seed) for seed in range(20)]
    found["wrong route"] = [
        outcome(client.route, "a", *wrong) for wrong in (("none", 0.5), ("random", 1.5), ("random", None), (None, 0.5))
    ]
    series = pandas.Series(["a", "b", "c"], index=[5, 3, 9], name="prompts")
    rates = outcome(client.batch_calculate_win_rate, series, "random")
    found["batch"] = [list(rates.index), rates.name, str(rates.dtype), [round(rate, 6) for rate in rates]]
    found["wrong batch"] = outcome(client.batch_calculate_win_rate, series, "none")
    found["async"] = asyncio.run(in_event_loop(client))
    texts = pandas.Series([prompt for prompt in PROMPTS if prompt])
    found["mf win rates"] = [float(rate) for rate in client.batch_calculate_win_rate(texts, "mf")]
    found["mf routes"] = [client.route(text, "mf", threshold) for text in texts for threshold in mf_thresholds]
    found["mf chat"] = told(client.completion(model=f"router-mf-{mf_thresholds[0]}", messages=user(texts[1])))
    found["counts"] = {router: dict(models) for router, models in sorted(client.model_counts.items())}
    return found


if __name__ == "__main__":
    for module, settings in json.loads(sys.argv[1]):
        thresholds = settings.pop("mf_thresholds")
        controller = importlib.import_module(module).Controller(**settings)
        print("RESULTS " + json.dumps(results(controller, thresholds)))
