"""The Triton report: its page is that of its numbers, and its clients read what a server writes."""

# ruff: noqa: RUF001 - multiplication signs are what a reader expects

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pytest

from benchmarks.harness.places import RESULTS
from benchmarks.harness.reports import Report
from benchmarks.harness.suites import MACHINE, committed, shown
from benchmarks.triton import clients, command
from benchmarks.triton.names import TRITON_OURS, TRITON_PYTHON, TRITON_TRIVIAL
from benchmarks.triton.page import MARKERS, render, tables


def sample() -> Report:
    """A report as `python -m benchmarks triton` writes it."""
    names = (TRITON_OURS, TRITON_TRIVIAL, TRITON_PYTHON)
    one = {
        name: {"p50_us": 100.0 + i, "p95_us": 200.0, "p99_us": 300.0, "ratio_to_trivial": {"median": 1.0 + i / 8}}
        for i, name in enumerate(names)
    }
    many = {name: {"requests_per_s": 12_345.0, "p50_us": 80.0, "p99_us": 160.0} for name in names}
    return {
        "machine": MACHINE,
        "command": "python -m benchmarks triton",
        "effort": "full",
        "server": "2.51.0",
        "missing": {},
        "loads": {"before": [0.1, 0.2, 0.3], "after": [1.0, 0.5, 0.25]},
        "prompts": {"count": 1000, "source": "natural prompts"},
        "decisions": {TRITON_OURS: {"equal_to_the_bit": 1000, "of": 1000}},
        "one_client": {"gRPC, alone": one, "HTTP, alone": one},
        "many_clients": {"HTTP, alone, 8": many, "HTTP, alone, 32": many, "HTTP, alone, 1": many},
        "starting": {TRITON_OURS: {"ready_ms": 140.0, "resident_mb": 36.0, "runs_python": False}},
    }


def test_a_report_says_what_was_measured_and_whether_the_bound_was_kept() -> None:
    report = sample()
    text = render(report)
    assert "| gRPC, alone | Python backend | 102 | 200 | 300 | 1.25 × |" in text
    assert text.index("HTTP, alone, 8 ") < text.index("HTTP, alone, 32 ")
    assert "1 ×, met" in text.replace("1.00", "1")
    assert "mean nothing" not in text
    report["one_client"]["gRPC, alone"][TRITON_OURS]["ratio_to_trivial"]["median"] = 1.21
    assert "1.21 ×, **not met**" in render(report)


def test_the_committed_page_is_that_of_the_committed_numbers() -> None:
    report = committed("triton.json")
    assert (RESULTS / "triton.md").read_text(encoding="utf-8") == render(report)
    assert shown(MARKERS) == tables(report).strip()


def test_a_reply_is_read_in_pieces_and_taken_apart() -> None:
    model = "größer".encode()
    tensors = struct.pack("<f", 0.625) + b"\1" + struct.pack("<I", len(model)) + model
    header = b'{"outputs":[]}'
    reply = (
        b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\n"
        + f"Inference-Header-Content-Length: {len(header)}\r\nContent-Length: {len(header) + len(tensors)}\r\n".encode()
        + b"\r\n" + header + tensors
    )  # fmt: skip
    assert [clients.is_whole(reply[:length]) for length in range(len(reply))] == [False] * len(reply)
    assert clients.is_whole(reply)
    assert clients.http_decision(reply) == (np.float32(0.625), True, "größer")
    with pytest.raises(ConnectionError, match="400 Bad Request"):
        clients.is_whole(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")


def test_a_request_counts_its_bytes() -> None:
    request = clients.http_request("router", "écrits")
    head, _, body = request.partition(b"\r\n\r\n")
    fields = dict(line.lower().split(b": ") for line in head.split(b"\r\n")[1:])
    length = int(fields[b"inference-header-content-length"])
    assert int(fields[b"content-length"]) == len(body)
    assert json.loads(body[:length])["inputs"][0]["parameters"]["binary_data_size"] == len(body) - length
    assert body[length:] == struct.pack("<I", 7) + "écrits".encode()


def test_a_missing_server_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--environment", str(tmp_path), "--quick", "--out", str(tmp_path)]
    assert command.main(arguments) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: needs a Triton Inference Server in {tmp_path}: `make triton-env` makes one")
    assert said.count("\n") == 1
