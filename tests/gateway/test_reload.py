"""Settings that change while requests are under way."""

from __future__ import annotations

import threading

from tests.gateway.test_relay import ask, chat
from tests.support.gateway import EASY, running_gateway, settings_text, until
from tests.support.upstream import running_upstream


def test_a_change_takes_effect_and_a_broken_file_changes_nothing(upstream, tmp_path, capfd):
    path = tmp_path / "gateway.yaml"
    path.write_text(settings_text(upstream.url))
    with running_gateway(path.read_text(), tmp_path, path=path) as gateway:
        runtime = gateway.worker.runtime
        assert ask(gateway, chat(EASY))[1]["x-routellm-model"] == "small"
        path.write_text(settings_text(upstream.url, router="threshold: 0.1"))
        until(lambda: runtime.reloads == 1)
        assert ask(gateway, chat(EASY))[1]["x-routellm-model"] == "big"
        path.write_text(settings_text(upstream.url, router="treshold: 0.9"))
        until(lambda: runtime.failed_reloads == 1)
        assert "line 8: routers.mf.treshold: there is no such key" in runtime.complaint
        assert ask(gateway, chat(EASY))[1]["x-routellm-model"] == "big"
        path.write_text(settings_text(upstream.url, router="threshold: 0.9"))
        until(lambda: runtime.reloads == 2)
        assert runtime.complaint == ""
        assert ask(gateway, chat(EASY))[1]["x-routellm-model"] == "small"
    assert "the settings before stay in force" in capfd.readouterr().err


def test_what_is_under_way_ends_as_it_began(upstream, tmp_path):
    path = tmp_path / "gateway.yaml"
    path.write_text(settings_text(upstream.url))
    answers = []
    upstream.requests.clear()
    with running_upstream() as another, running_gateway(path.read_text(), tmp_path, path=path) as gateway:
        body = chat(f"{EASY} slow", stream=True, note="@pause=0.2 @words=15")
        thread = threading.Thread(target=lambda: answers.append(ask(gateway, body)))
        thread.start()
        until(lambda: upstream.requests)
        path.write_text(settings_text(another.url))
        until(lambda: gateway.worker.runtime.reloads == 1)
        assert ask(gateway, chat(EASY))[0] == 200
        assert len(another.requests) == 1
        thread.join()
    status, _, body = answers[0]
    assert (status, body.count(b"data: "), body.endswith(b"data: [DONE]\n\n")) == (200, 19, True)
    assert len(upstream.requests) == 1


def test_reloads_without_end_lose_nothing(upstream, tmp_path):
    path = tmp_path / "gateway.yaml"
    path.write_text(settings_text(upstream.url))
    statuses = []
    with running_gateway(path.read_text(), tmp_path, path=path) as gateway:
        stop = threading.Event()

        def work(number):
            while not stop.is_set():
                statuses.append(ask(gateway, chat(f"{EASY} {number}", stream=number % 2 == 0))[0])

        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for turn in range(4):
            path.write_text(settings_text(upstream.url, router=f"threshold: 0.{turn + 1}"))
            until(lambda wanted=turn + 1: gateway.worker.runtime.reloads >= wanted)
        stop.set()
        for thread in threads:
            thread.join()
    assert set(statuses) == {200}
