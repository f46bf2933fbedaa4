"""Coverage-guided fuzzing of what reads tables, lines, JSON, journals, answers of servers and texts (needs atheris).

    python tests/fuzz/fuzz_records.py -max_total_time=60

An input chooses a reader and is its content, or damages a content that the reader takes. Whatever happens must be a
RouteLLMError, or a value that keeps what the reader promises.
"""

from __future__ import annotations

import gzip
import io
import itertools
import json
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import atheris

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import safetensors.numpy

import routellm_fast as rf
from routellm_fast import data as battle_data
from routellm_fast.adaptation.checking import chosen_letter, normalised
from routellm_fast.adaptation.numerals import last_number
from routellm_fast.adaptation.redaction import read_rules, redaction_of
from routellm_fast.adaptation.unit_tests import code_of
from routellm_fast.augmentation.completion import parse_completion
from routellm_fast.augmentation.journal import read_journal
from routellm_fast.augmentation.templates import Template
from routellm_fast.augmentation.verdict import Mode, is_verdict, parse_verdict
from routellm_fast.calibration import Calibration
from routellm_fast.cli._prompts import PromptFormat
from routellm_fast.cli._prompts import read_prompts as read_prompt_lines
from routellm_fast.evaluation import Evaluation
from routellm_fast.evaluation.streaming.rows import log_parts, read_part
from routellm_fast.prices import read_price_list
from routellm_fast.prompt import text_of
from routellm_fast.tables import LeftOut, csv_writer, read_table
from routellm_fast.tensor_file import read_tensors
from tests.fuzz.harness import damage, instrument, workspace
from tests.support.builders import mf_router
from tests.support.calibration_builders import full_calibration
from tests.support.report_samples import evaluation

WORKSPACE = workspace()
ROUTER = mf_router()
REDACTION = redaction_of(["all"])
PART_BYTES = 64


def written(name: str, content: bytes) -> Path:
    path = WORKSPACE / name
    path.write_bytes(content)
    return path


# --- what is read ---------------------------------------------------------------------------------------------------


def table(name: str) -> Callable[[bytes], None]:
    def read(content: bytes) -> None:
        rows = list(read_table(written(name, content)))
        assert rows
        for row in rows:
            for column in list(row.values)[:4]:
                row.is_empty(column)
                for cell in (row.text, row.number):
                    try:
                        found = cell(column)
                    except rf.RouteLLMError:
                        continue
                    assert not isinstance(found, float) or math.isfinite(found)

    return read


def csv_again(content: bytes) -> None:
    """What is read is written and read as the same."""
    rows = [dict(row.values) for row in read_table(written("table.csv", content))]
    text = io.StringIO()
    write = csv_writer(text)
    write(list(rows[0]))
    for row in rows:
        write(list(row.values()))
    again = [dict(row.values) for row in read_table(written("again.csv", text.getvalue().encode()))]
    assert again == rows, (rows, again)


def parts_of_lines(content: bytes) -> None:
    """A log that is read in pieces has the rows that it has in one."""
    path = written("log.jsonl", content)

    def rows(part_bytes: int) -> tuple[list[object], int]:
        damaged: list[object] = []
        found = [
            row.values
            for part in log_parts(path, part_bytes=part_bytes)
            for row in read_part(part, on_damage=damaged.append)
        ]
        return found, len(damaged)

    assert repr(rows(PART_BYTES)) == repr(rows(1 << 30))


def battles(content: bytes) -> None:
    counts = battle_data.Counts()
    found = battle_data.read_battles(
        written("battles.jsonl", content), drop_ties=False, counts=counts, left_out=LeftOut()
    )
    assert all(battle.target in (0.0, 0.5, 1.0) and battle.weight > 0.0 for battle in found)
    assert all(battle.prompt.strip() and battle.model_a != battle.model_b for battle in found)
    if found:
        try:
            arrays = battle_data.to_arrays(found)
        except rf.InvalidArgumentError:  # weights too far apart
            return
        assert len(arrays) == len(found)


def golden(content: bytes) -> None:
    rows = battle_data.read_golden(written("golden.csv", content), left_out=LeftOut())
    assert all(math.isfinite(score) for row in rows for score in row.scores.values())
    assert all(0.0 <= battle.target <= 1.0 for battle in battle_data.pairs(rows, soft=True, cap_per_prompt=2))


def prompts_file(content: bytes) -> None:
    battle_data.read_prompts(written("prompts.csv", content), left_out=LeftOut())


def prompt_lines(form: PromptFormat, name: str) -> Callable[[bytes], None]:
    def read(content: bytes) -> None:
        for prompt in read_prompt_lines([], written(name, content), form, left_out=LeftOut()):
            assert isinstance(prompt.text, str)
            assert prompt.text.strip() or b"{" in content  # objects are always answered

    return read


def journal(content: bytes) -> None:
    ledger = read_journal(written("journal.jsonl", content))
    assert ledger.spent_usd >= 0.0
    assert ledger.calls >= len(ledger.responses)


def calibration(content: bytes) -> None:
    value = loaded(content)
    if not isinstance(value, dict):
        raise rf.DataError("a manifest holds an object or null")
    found = Calibration.from_json(value)
    again = Calibration.from_json(json.loads(json.dumps(found.to_json(), allow_nan=False)))
    assert again == found
    assert 0.0 <= found.threshold_for(0.3) <= 1.0


def evaluation_file(content: bytes) -> None:
    found = Evaluation.read(written("evaluation.json", content))
    json.dumps(found.to_json())


def prices(content: bytes) -> None:
    assert all(0.0 <= usd < math.inf for usd in read_price_list(written("prices.json", content)).values())


def completion(content: bytes) -> None:
    found = parse_completion(content, most_input=10, most_output=20)
    assert found is None or (isinstance(found.text, str) and found.input_tokens >= 0 and found.output_tokens >= 0)


def verdict(content: bytes) -> None:
    text = content.decode("utf-8", "replace")
    for mode in Mode:
        for as_json in (False, True):
            found = parse_verdict(text, mode, as_json=as_json)
            assert found is None or is_verdict(found, mode)


def template(content: bytes) -> None:
    found = Template.from_file(written("template.txt", content), Mode.PAIRWISE)
    messages = found.messages("the prompt", ("{prompt} of A", "{response_a} of B"), None, remind=True)
    assert all(isinstance(message["content"], str) for message in messages)


def chat(content: bytes) -> None:
    for rule in ("last_user", "last"):
        assert isinstance(text_of(loaded(content), rule=rule), str)


def tensors(content: bytes) -> None:
    arrays, names = read_tensors(content, Path("model.safetensors"), wanted=("w", "half"))
    assert set(arrays) <= set(names)


def text(content: bytes) -> None:
    """A text has one win rate, however Python holds it: a byte, two or four a character, with halves of pairs."""
    width = (1, 2, 4)[content[0] % 3] if content else 1
    units = np.frombuffer(content[1 : len(content) - (len(content) - 1) % width], f"<u{width}") if content else ()
    prompt = "".join(chr(int(unit) % 0x110000) for unit in units)
    valid = prompt.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    rates = ROUTER.win_rates([prompt, *(half for half in (prompt[:7], prompt[7:])), valid])
    assert all(0.0 <= rate <= 1.0 for rate in rates)
    # Two halves that stand together are one character of UTF-16 but two of Python's.
    if valid == "".join("\ufffd" if "\ud800" <= c <= "\udfff" else c for c in prompt):
        assert rates[0] == rates[-1], prompt


def rules_of_redaction(content: bytes) -> None:
    for name in ("rules.txt", "rules.jsonl"):
        try:
            rules = read_rules(written(name, content))
        except rf.DataError:
            continue
        assert all(rule.applied("") == ("", 0) for rule in rules)


def answer(content: bytes) -> None:
    """An answer of a model has a number, a letter and code, or none; what is taken out of it stands in order."""
    said = content.decode("utf-8", "surrogateescape")
    number = last_number(said)
    assert number is None or math.isfinite(number.value)
    assert chosen_letter(said, said) in {None, *"ABCDEFGHIJKLMNOPQRSTUVWXYZ"}
    assert normalised(normalised(said)) == normalised(said)
    assert isinstance(code_of(said), str | None)
    for rule in REDACTION.rules:
        ends = [place for span in rule.find(said) for place in span]
        assert all(low <= high for low, high in itertools.pairwise([0, *ends, len(said)]))
    REDACTION.redacted(said)


def loaded(content: bytes) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise rf.DataError(str(error)) from error


# --- what readers take ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Reader:
    read: Callable[[bytes], None]
    sample: bytes


def lines(*records: object) -> bytes:
    return "".join(json.dumps(record) + "\n" for record in records).encode()


def parquet(rows: list[dict[str, Any]]) -> bytes:
    sink = io.BytesIO()
    pa.parquet.write_table(pa.Table.from_pylist(rows), sink, compression="none")
    return sink.getvalue()


CSV = b'prompt,gpt-4,"mixtral, 8x7b"\n"a ""b"",\nc",1,0.5\nd,,0\n'
BATTLES = lines(
    {"prompt": "a", "model_a": "x", "model_b": "y", "winner": "model_a", "weight": 2.5, "source": "s"},
    {"prompt": [{"role": "user", "content": "b"}], "model_a": "x", "model_b": "z", "winner": "tie (bothbad)"},
    {"prompt": '["c", null]', "model_a": "x", "model_b": "z", "winner_model_a": 0, "winner_model_b": 1, "judge": "j"},
    {"question": "q", "options_json": '["1", "2"]', "model_a": "x", "model_b": "z", "winner": "model_b"},
    {
        "conversation_a": [{"role": "user", "content": [{"type": "text", "text": "d"}]}],
        "model_a": "a",
        "model_b": "b",
        "winner": "tie",
    },
)
JOURNAL = lines(
    {"record": "settings", "format_version": 1, "mode": "pairwise", "judge": "j", "template": "t"},
    {
        "record": "contest",
        "id": "1",
        "prompt": "p",
        "group": "g",
        "source": "s",
        "model_a": "a",
        "model_b": "b",
        "calls": {"ab": "k"},
        "winner": None,
    },
    {
        "record": "judgement",
        "key": "k",
        "verdict": "first",
        "input_tokens": 3,
        "output_tokens": 4,
        "is_metered": True,
        "is_cut_off": False,
        "cost_usd": 0.5,
    },
    {
        "record": "response",
        "key": "r",
        "text": "t",
        "input_tokens": 3,
        "output_tokens": 4,
        "is_metered": False,
        "is_cut_off": True,
        "cost_usd": 0.5,
    },
    {"record": "loss", "usd": 0.25},
    {"record": "failure", "key": "f", "reason": "why"},
)
ANSWERS = lines(
    {"record": "settings", "format_version": 1, "mode": "answers"},
    {"record": "response", "key": "r", "text": "t", "input_tokens": 3, "output_tokens": 4, "is_metered": True,
     "is_cut_off": False, "cost_usd": 0.5},
    {"record": "judge", "mode": "score", "judge": "j"},
    {"record": "contest", "id": "1", "prompt": "p", "group": "g", "source": "s", "model_a": "a", "model_b": "b",
     "calls": {"a": "k", "b": "l"}, "winner": None},
    {"record": "judge", "mode": "pairwise", "judge": "i"},
)  # fmt: skip
ANSWER = rb"""The area is \boxed{\frac{3}{4}} m^2, so 1,234.5 (12 %). The answer is (B). Ask a@b.de, +1 212 555 0123,
4111 1111 1111 1111, DE89 3704 0044 0532 0130 00, 10.0.0.1, api_key: abcdef123 #### -5e3
```python
def f(): pass
```"""
CHAT = json.dumps(
    [
        {"role": "system", "content": "s"},
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image_url"}, "b"]},
        {"role": "assistant", "content": None},
    ]
).encode()
COMPLETION = json.dumps(
    {
        "choices": [{"message": {"content": [{"type": "text", "text": "VERDICT: A"}]}, "finish_reason": "length"}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 4},
    }
).encode()
PROMPT_LINES = b'plain\n{"prompt": "a", "id": 3}\n{"messages": ' + CHAT + b"}\n\n{ no JSON\n"

# New ones go to the end: the first byte of an input chooses.
READERS = [
    Reader(table("table.csv"), CSV),
    Reader(table("table.jsonl"), lines({"a": "x", "b": 1}, {"a": None, "b": [True]})),
    Reader(table("table.csv.gz"), gzip.compress(CSV)),
    Reader(table("table.parquet"), parquet([{"a": "x", "b": 1.5}, {"a": None, "b": 2.5}])),
    Reader(csv_again, b'a;b\t;c\n1;"2\r";3\n;;4\n'),
    Reader(parts_of_lines, lines({"prompt": "a" * 40}, {"prompt": "b"}, [1], {"prompt": "\u00e9" * 30})),
    Reader(battles, BATTLES),
    Reader(golden, b"prompt,x,y,y_cost_usd,prompt_group,weight\na,1,0,0.5,g,1\nb,true,,,,2\n"),
    Reader(prompts_file, b"prompt_id,prompt,prompt_group\n1,a,g\n2.0,b,\n"),
    Reader(prompt_lines(PromptFormat.AUTO, "lines.txt"), PROMPT_LINES),
    Reader(
        prompt_lines(PromptFormat.JSONL, "lines.jsonl"),
        lines({"prompt": "a"}, {"messages": [{"role": "user", "content": "b"}]}),
    ),
    Reader(journal, JOURNAL),
    Reader(calibration, json.dumps(full_calibration().to_json()).encode()),
    Reader(evaluation_file, json.dumps(evaluation().to_json()).encode()),
    Reader(prices, b'{"gpt-4": 24.7, "mixtral": 0}'),
    Reader(completion, COMPLETION),
    Reader(verdict, b'because\n**VERDICT: tie**\n{"verdict": "A", "score": 3}'),
    Reader(template, b"{prompt} {response_a} {response_b} {reference} { {{x}"),
    Reader(chat, CHAT),
    Reader(tensors, safetensors.numpy.save({"w": np.ones((2, 3), np.float32), "half": np.ones(2, np.float16)})),
    Reader(text, b"\1" + "the a? \u4e2d\u00e9 b".encode("utf-16-le")),
    Reader(journal, ANSWERS),
    Reader(rules_of_redaction, b'# ours\na+\t[a]\n{"pattern": "b", "replacement": "c", "name": "d"}\n'),
    Reader(answer, ANSWER),
]
instrument()


def one_input(raw: bytes) -> None:
    if len(raw) < 2:
        return
    reader = READERS[raw[0] % len(READERS)]
    if raw[1] % 2:
        content = raw[2:]
    else:
        content = damage(reader.sample, atheris.FuzzedDataProvider(raw[2:])) if len(raw) > 2 else reader.sample
    try:
        reader.read(content)
    except (rf.RouteLLMError, MemoryError):
        # What is intact is read.
        assert content is not reader.sample, reader.read


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
