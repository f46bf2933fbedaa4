"""The gateway as the command line starts it, with one process and with several."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.gateway.test_relay import ask, chat
from tests.support.gateway import EASY, settings_text, until
from tests.support.processes import assert_refused, run_cli


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def serve(upstream, tmp_path):
    started = []

    def start(*arguments, text=None):
        path = tmp_path / "gateway.yaml"
        path.write_text(text or settings_text(upstream.url))
        port = free_port()
        command = [sys.executable, "-m", "routellm_fast", "serve", "--config", path, "--port", port, *arguments]
        with (tmp_path / "errors").open("wb") as errors:
            process = subprocess.Popen([*map(str, command)], stdout=subprocess.DEVNULL, stderr=errors)
        started.append(process)
        url = f"http://127.0.0.1:{port}"

        def answers():
            assert process.poll() is None, (tmp_path / "errors").read_text()
            try:
                return get(port, "/ready").startswith(b"HTTP/1.1 200")
            except OSError:
                return False

        until(answers)
        return SimpleNamespace(url=url, port=port, process=process, path=path, errors=tmp_path / "errors")

    yield start
    for process in started:
        process.terminate()  # its worker processes end with it
        process.wait(60)


def worker_ids(gateway):
    parent = gateway.process.pid
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return [pid for pid in children if "spawn_main" in Path(f"/proc/{pid}/cmdline").read_text()]


def runs(pid):
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()  # else nobody has asked how it ended
    except OSError:
        return False


def get(port, path):
    with socket.create_connection(("127.0.0.1", port), 30) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".encode())
        data = b""
        while piece := connection.recv(65536):
            data += piece
    return data


def counted(port):
    """Return the counters' values, summed over labels."""
    body = get(port, "/metrics").partition(b"\r\n\r\n")[2]
    sums = {}
    for family in text_string_to_metric_families(body.decode()):
        for sample in family.samples:
            sums[sample.name] = sums.get(sample.name, 0.0) + sample.value
    return sums


@pytest.mark.parametrize("workers", [1, 2])
def test_requests_are_answered_and_counted_over_all_processes(serve, workers):
    gateway = serve("--workers", workers)
    for number in range(40):
        status, headers, _ = ask(gateway, chat(f"{EASY} {number}", stream=number % 2 == 0))
        assert (status, headers["x-routellm-model"]) == (200, "small")
    assert ask(gateway, b"{")[0] == 400
    until(lambda: counted(gateway.port)["routellm_requests_total"] == 41)
    found = counted(gateway.port)
    assert (found["routellm_requests_began_total"], found["routellm_requests_in_flight"]) == (41.0, 0.0)
    assert found["routellm_decisions_total"] == 40.0
    assert found["routellm_win_rate_count"] == 40.0


@pytest.mark.parametrize("workers", [1, 2])
def test_a_stop_lets_streams_finish(serve, workers):
    gateway = serve("--workers", workers)
    answers = []
    body = chat(f"{EASY} long", stream=True, note="@pause=0.1 @words=20")
    thread = threading.Thread(target=lambda: answers.append(ask(gateway, body)))
    thread.start()
    until(lambda: counted(gateway.port).get("routellm_requests_in_flight") == 1.0)
    gateway.process.send_signal(signal.SIGTERM)
    thread.join(60)
    assert gateway.process.wait(60) in (0, -signal.SIGTERM)
    status, _, data = answers[0]
    assert (status, data.endswith(b"data: [DONE]\n\n")) == (200, True)
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", gateway.port), 5).close()


def test_a_worker_that_dies_is_replaced_with_the_newest_settings(serve, upstream):
    gateway = serve("--workers", 2)
    gateway.path.write_text(settings_text(upstream.url, router="threshold: 0.1"))
    until(lambda: all(ask(gateway, chat(EASY))[1]["x-routellm-model"] == "big" for _ in range(12)))
    for pid in worker_ids(gateway):
        os.kill(int(pid), signal.SIGKILL)

    def is_back():
        try:
            return all(ask(gateway, chat(EASY))[1]["x-routellm-model"] == "big" for _ in range(12))
        except OSError:
            return False

    time.sleep(0.2)
    until(is_back)


def test_workers_end_with_their_parent(serve):
    gateway = serve("--workers", 2)
    until(lambda: len(worker_ids(gateway)) == 2)
    until(lambda: all(ask(gateway, chat(EASY))[0] == 200 for _ in range(20)))
    workers = worker_ids(gateway)
    gateway.process.kill()
    gateway.process.wait()
    until(lambda: not any(runs(pid) for pid in workers))


def test_the_log_has_a_line_for_each_request_and_no_prompt(serve):
    gateway = serve()
    ask(gateway, chat("a secret of mine"))
    gateway.process.send_signal(signal.SIGTERM)
    gateway.process.wait(60)
    errors = gateway.errors.read_text()
    lines = [json.loads(line) for line in errors.splitlines() if line.startswith("{")]
    assert [line["message"] for line in lines if line["message"] == "request"] == ["request"]
    assert "secret" not in errors


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config", "none.yaml"], "none.yaml cannot be read"),
        ([], "--strong-model and --weak-model"),
        (["--strong-model", "a", "--weak-model", "a"], "both"),
        (["--strong-model", "a", "--weak-model", "b", "--base-url", "ftp://x"], "base_url must be like"),
        (["--strong-model", "a", "--weak-model", "b"], "OPENAI_API_KEY"),
        (["--routers", "nobody", "--strong-model", "a", "--weak-model", "b", "--base-url", "http://x/v1"], "nobody"),
        (["mf"], "--routers"),
        (
            ["--host", "256.0.0.1", "--strong-model", "a", "--weak-model", "b", "--base-url", "http://x/v1"],
            "cannot listen on",
        ),
    ],
)
def test_what_cannot_be_served_is_one_line(arguments, message, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    assert_refused(run_cli("serve", *arguments), message)
