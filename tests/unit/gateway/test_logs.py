"""Lines of the log, and what they never hold."""

from __future__ import annotations

import json
import logging

import pytest

from routellm_fast.gateway import logs
from routellm_fast.gateway.exchange import Choice, Exchange, Usage
from routellm_fast.gateway.logs import RequestLog
from routellm_fast.gateway.settings import LogSettings
from tests.support.hostile import HOSTILE


@pytest.fixture
def lines(capsys):
    def written(settings, *exchanges, log=None):
        made = RequestLog(settings)
        made.start()
        try:
            for exchange in exchanges:
                made.began(exchange)
                made.ended(exchange)
            if log is not None:
                log()
        finally:
            made.stop()
        return capsys.readouterr().err.splitlines()

    return written


def exchange(**fields):
    choice = Choice("small", "big", "router", "mf", "", 0.25, 0.5, False, "small")
    return Exchange("/v1/chat/completions", choice=choice, model="small", status=200, usage=Usage(3, 4), **fields)


def test_a_request_is_a_line_of_json(lines):
    (line,) = lines(LogSettings(), exchange(text="a secret", total_s=0.0125))
    found = json.loads(line)
    assert (found["message"], found["model"], found["win_rate"], found["output_tokens"]) == (
        "request",
        "small",
        0.25,
        4,
    )
    assert found["total_ms"] == 12.5
    assert "secret" not in line


def test_prompts_are_written_where_they_are_wanted(lines):
    (line,) = lines(LogSettings(prompts=True), exchange(text="a secret"))
    assert json.loads(line)["text"] == "a secret"


def test_requests_may_be_left_out(lines):
    assert lines(LogSettings(requests=False), exchange()) == []


def test_nothing_breaks_a_line(lines):
    text = HOSTILE
    found = lines(LogSettings(prompts=True), exchange(asked_model=text, text=text))
    assert len(found) == 1
    assert json.loads(found[0])["text"] == text
    assert found[0].isascii()
    assert found[0].isprintable()


def test_faults_of_the_gateway_are_lines_too(lines):
    def fail():
        try:
            raise ValueError("why")
        except ValueError:
            logging.getLogger("routellm_fast.gateway").exception("a fault")

    (line,) = lines(LogSettings(), log=fail)
    assert "ValueError: why" in json.loads(line)["exception"]


def test_lines_that_have_no_room_are_counted(lines, monkeypatch):
    monkeypatch.setattr(logs, "_MOST_WAITING", 3)
    monkeypatch.setattr(logs, "_WRITE_EVERY_S", 3600.0)
    found = [json.loads(line) for line in lines(LogSettings(), *(exchange() for _ in range(10)))]
    assert [line["message"] for line in found] == ["request"] * 3 + ["lines left out"]
    assert found[-1]["lines"] == 7


def test_a_reader_that_is_gone_is_no_fault(monkeypatch):
    class Gone:
        def write(self, text):
            raise BrokenPipeError

    monkeypatch.setattr("sys.stderr", Gone())
    made = RequestLog(LogSettings())
    made.start()
    made.ended(exchange())
    made.stop()
