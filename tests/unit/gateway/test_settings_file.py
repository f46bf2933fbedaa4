"""Each fault of a settings file is said with its line, its key and what is allowed."""

from __future__ import annotations

import pytest

from routellm_fast.errors import DataError
from routellm_fast.gateway.settings_file import read_settings, settings_of

GOOD = """\
upstreams:
  cloud: {base_url: https://api.openai.com/v1, api_key_env: OPENAI_API_KEY}
  local: {base_url: http://127.0.0.1:8000/v1/}
models:
  big: {upstream: cloud, name: gpt-x, input_usd_per_1m: 2.5, output_usd_per_1m: 10, cached_input_usd_per_1m: 1.25}
  small: {upstream: local}
routers:
  mf:
    strong: big
    weak: small
    threshold: 0.4
aliases: {auto: router-mf, fixed: router-mf-0.2, large: big}
rules:
  - name: tools
    when: {tools: true}
    use: strong
  - name: named
    when: {header: {x-tier: gold*}}
    use: big
clients:
  - {name: web, key_sha256: "{digest}"}
""".replace("{digest}", "0" * 64)


def test_a_good_file_is_read(tmp_path):
    path = tmp_path / "gateway.yaml"
    path.write_text(GOOD)
    settings = read_settings(path)
    assert settings.routers["mf"].threshold == 0.4
    assert settings.upstreams["local"].base_url == "http://127.0.0.1:8000/v1"
    assert settings.rules[1].when.header == {"x-tier": "gold*"}
    assert settings.listen.host == "127.0.0.1"


def test_a_cost_takes_cached_tokens_at_their_own_price():
    big = settings_of(GOOD, "f").models["big"]
    assert big.cost_usd(1_000_000, 100_000) == pytest.approx(3.5)
    assert big.cost_usd(1_000_000, 100_000, 400_000) == pytest.approx(3.0)
    assert big.cost_usd(100, 0, 400) == pytest.approx(100 * 1.25e-6)


@pytest.mark.parametrize(
    ("old", "new", "messages"),
    [
        (
            "threshold: 0.4",
            "treshold: 0.4",
            ["line 11: routers.mf.treshold: there is no such key; did you mean threshold?", "strong_share"],
        ),
        ("threshold: 0.4", "threshold: 40", ["line 11: routers.mf.threshold: ", "less than or equal to 1", "found 40"]),
        (
            "threshold: 0.4",
            "threshold: 0.4\n    strong_share: 0.2",
            ["line 8: routers.mf: give one of", "found threshold and strong_share"],
        ),
        (
            "threshold: 0.4",
            "monthly_budget_usd: 9",
            ["line 8: routers.mf: a pool and a budget need prices", "of small"],
        ),
        ("threshold: 0.4", "no_text: maybe", ["line 11: routers.mf.no_text: ", "'strong'", "found 'maybe'"]),
        (
            "weak: small",
            "weak: smal",
            ["line 10: routers.mf.weak: 'smal' is no model; did you mean 'small'? There are: big, small"],
        ),
        ("weak: small", "weak: big", ["line 8: routers.mf: strong and weak are both 'big'"]),
        ("    weak: small\n", "", ["line 8: routers.mf: name both models"]),
        (
            "upstream: local}",
            "upstream: locla}",
            ["line 6: models.small.upstream: 'locla' is no upstream; did you mean 'local'?"],
        ),
        ("http://127.0.0.1:8000/v1/", "ftp://x", ["line 3: upstreams.local.base_url: base_url must be like"]),
        (
            "http://127.0.0.1:8000/v1/",
            "http://u:p@x/v1",
            ["line 3: upstreams.local.base_url: base_url must hold no user name"],
        ),
        (
            "api_key_env: OPENAI_API_KEY",
            "api_key: sk-123",
            ["line 2: upstreams.cloud.api_key: there is no such key", "api_key_env"],
        ),
        ("auto: router-mf,", "auto: router-fm,", ["line 12: aliases.auto: 'router-fm' is no model or router"]),
        ("when: {tools: true}", "when: {}", ["line 15: rules.0.when: give at least one condition"]),
        (
            "when: {tools: true}",
            "when: {tool: true}",
            ["line 15: rules.0.when.tool: there is no such key; did you mean tools?"],
        ),
        ("use: big", "use: bigger", ["line 19: rules.1.use: 'bigger' is no model"]),
        ("name: named", "name: tools", ["line 17: rules.1.name: 'tools' is given twice"]),
        ("0" * 64, "sk-secret", ["line 21: clients.0.key_sha256: "]),
        ("upstreams:", "upstreams: {}\nother:", ["line 1: upstreams: ", "line 2: other: there is no such key"]),
        ("aliases: {", "aliases: &a {", []),
        ("aliases: {", "routers: {", ["line 12, column 1: no YAML: the key 'routers' is given twice"]),
        ("aliases: {", "aliases: [", ["line 12, column"]),
        ("threshold: 0.4", "threshold: .nan", ["line 11: routers.mf.threshold: "]),
        ("  big: {", "  router-big: {", ["line 5: models.router-big: a model's name must not begin with router-"]),
        ("  big: {", "  'bi g': {", ["line 5: models.bi g"]),
    ],
)
def test_a_fault_is_said_with_line_key_and_what_is_allowed(old, new, messages):
    assert old in GOOD
    text = GOOD.replace(old, new, 1)
    if not messages:
        settings_of(text, "f")
        return
    with pytest.raises(DataError) as error:
        settings_of(text, "f.yaml")
    found = str(error.value)
    assert found.startswith("f.yaml: ")
    for message in messages:
        assert message in found


def test_a_secret_in_the_wrong_place_is_not_repeated():
    with pytest.raises(DataError) as error:
        settings_of(GOOD.replace("0" * 64, "sk-secret-of-mine-1234"), "f")
    assert "sk-secret" not in str(error.value)


@pytest.mark.parametrize(
    "text",
    ["", "just words", "- a\n- b\n", "a: *b\n", "? [a]\n: b\n", "a: !!python/object:os.system x\n", "a: {" * 400],
)
def test_what_is_no_mapping_is_refused(text):
    with pytest.raises(DataError):
        settings_of(text, "f")


def test_an_unreadable_file_is_named(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        read_settings(tmp_path / "none.yaml")
    (tmp_path / "bytes.yaml").write_bytes(b"a: \xff")
    with pytest.raises(DataError, match="no UTF-8 text: byte 3 is 0xff"):
        read_settings(tmp_path / "bytes.yaml")
