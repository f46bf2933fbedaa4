"""Router directories with a bit or more of them changed, and manifests that claim anything."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np

import routellm_fast as rf
from routellm_fast.artifact import ROUTER_LAYOUT, read_artifact
from tests.attack.harness import Attack, Campaign
from tests.support.builders import mf_router
from tests.support.c_library import BAD_DIRECTORY, NOT_FOUND, CRouter, LibraryError
from tests.support.calibration_builders import full_calibration
from tests.support.manifests import editable_manifest
from tests.support.sw_builders import sw_router

_PROMPTS: Final = ["hello", "prove the a b c?", ""]
_MANIFEST: Final = "router.json"
# The only file without a digest: text that no win rate depends on.
_MODEL_CARD: Final = "README.md"


def _routers(folder: Path) -> list[Path]:
    """Save a router of each form; return their directories."""
    routers = {
        "mf": mf_router(calibration=full_calibration()),
        "float32": sw_router(added=(9,)),
        "int8": sw_router("int8", added=(9,), pca_dim=7),
        "moments": sw_router("moments", added=(9,), pca_dim=5),
    }
    for name, router in routers.items():
        router.save(folder / name)
    return [folder / name for name in routers]


def _replace(path: Path, content: bytes) -> None:
    """Put another file in the place of one: what is mapped of the old one stays as it is."""
    new = path.with_name(f"{path.name}.new")
    new.write_bytes(content)
    new.replace(path)


def _changed(content: bytes, rng: random.Random) -> tuple[str, bytes]:
    """Return what was done to the content of a file, and its new content."""
    size, at = len(content), rng.randrange(len(content))
    some = rng.randrange(1, 33)
    other = rng.randrange(size)
    ways: dict[str, Callable[[], bytes]] = {
        "a bit flipped": lambda: content[:at] + bytes([content[at] ^ (1 << rng.randrange(8))]) + content[at + 1 :],
        "a byte set": lambda: content[:at] + bytes([rng.randrange(256)]) + content[at + 1 :],
        "bytes inserted": lambda: content[:at] + rng.randbytes(some) + content[at:],
        "bytes left out": lambda: content[:at] + content[at + some :],
        "bytes set to zero": lambda: content[:at] + bytes(min(some, size - at)) + content[at + some :],
        "the end cut off": lambda: content[:at],
        "a part twice": lambda: content[: at + some] + content[at:],
        "a part from elsewhere": lambda: (content[:at] + content[other : other + some] + content[at + some :])[:size],
        "a block of a disk lost": lambda: content[: at // 512 * 512] + bytes(512) + content[at // 512 * 512 + 512 :],
    }
    # Half of all are flips: they leave the most of a file as it was.
    way = "a bit flipped" if rng.random() < 0.5 else rng.choice(list(ways))
    return way, ways[way]()


def _flip(campaign: Campaign) -> None:
    rng = campaign.rng
    places = _routers(campaign.folder)
    digests = [read_artifact(place, ROUTER_LAYOUT).digest for place in places]
    expected = [rf.load_router(place).win_rates(_PROMPTS) for place in places]
    for _ in range(campaign.count):
        which = rng.randrange(len(places))
        place, digest = places[which], digests[which]
        # Each second change is in the manifest: all else follows from it.
        files = sorted(file.name for file in place.iterdir())
        name = _MANIFEST if rng.random() < 0.5 else rng.choice(files)
        content = (place / name).read_bytes()
        way, other = _changed(content, rng)
        if other == content:
            continue
        what = f"{way} in {name} of {place.name}"
        _replace(place / name, other)
        try:
            with_digest = _verdict(lambda p=place, d=digest: rf.load_router(p, digest=d), what)
            without = _verdict(lambda p=place: rf.load_router(p), what)
            in_c = _verdict(lambda p=place: CRouter(p), what)
            in_c_with_digest = _verdict(lambda p=place, d=digest: CRouter(p, digest=d.encode()), what)
            if name == _MODEL_CARD:
                loaded = rf.load_router(place, digest=digest)
                assert np.array_equal(loaded.win_rates(_PROMPTS), expected[which]), f"{what}: other win rates"
                campaign.tally["changes of the model card, which no win rate depends on"] += 1
                continue
            assert with_digest == "refused" == in_c_with_digest, f"{what}: taken with the digest of the undamaged one"
            assert without == in_c, f"{what}: {without} in Python, {in_c} in C"
            is_mapped = b'"file": "' + name.encode() in (place / _MANIFEST).read_bytes()
            assert without == "refused" or is_mapped, f"{what}: loaded without a digest"
            found = "found at loading" if without == "refused" else "in mapped data, found by the digest"
            campaign.tally[f"changes {found}"] += 1
        finally:
            _replace(place / name, content)
    for place, digest, rates in zip(places, digests, expected, strict=True):
        assert np.array_equal(rf.load_router(place, digest=digest).win_rates(_PROMPTS), rates)


def _verdict(load: Callable[[], object], what: str) -> str:
    """Say whether a directory is loaded or refused by name. Any other end is an AssertionError."""
    try:
        load()
    except rf.ArtifactError as error:
        if isinstance(error, MemoryError):
            raise AssertionError(f"{what}: {error}") from error
        return "refused"
    except rf.EmbedderMismatchError:  # the parts are whole, and do not belong together
        return "refused"
    except LibraryError as error:
        if error.status not in (BAD_DIRECTORY, NOT_FOUND):
            raise AssertionError(f"{what}: status {error.status}, {error}") from error
        return "refused"
    except Exception as error:
        raise AssertionError(f"{what}: {type(error).__name__}: {error}") from error
    return "loaded"


_NUMBERS: Final = [
    *(0, 1, -1, 2, 3, 64, 255, 256, 65535, 2**31, 2**32, 2**45, 2**53, 2**61, 2**62, 2**63 - 1, 2**63, 2**64, 10**300),
    *(0.0, -0.0, 0.5, 1e-310, 1e300, -1e300, 1.7976931348623157e308),
]
_TEXTS: Final = ["", "a", "static", "int8", "moments", "mf", "sw_ranking", "\0", "\ud800", "é", "../x", "x" * 1000]
# What JSON text may hold in a value's place, sound or not.
_RAW: Final = [
    *("1e999", "-1e999", "1" * 5000, "1" + "0" * 309, "NaN", "-0", "1E5", "01", "[" * 900 + "]" * 900, "[" * 70),
    *('{"a":1,"a":1}', '"\\ud800"', '"\\u0000"', '"\\x"', '"\xff"', "\ufeff1", "", "tru", "[1,]", "{}", "[]", "null"),
    *('"\\ud83d\\ude00"', "1.0", "true", '{"":{}}', "1" + "0" * 20),
]


def _places_of(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the paths to all values of a document."""
    if isinstance(value, dict):
        inner = [place for key, part in value.items() for place in _places_of(part, (*at, key))]
    elif isinstance(value, list):
        inner = [place for key, part in enumerate(value) for place in _places_of(part, (*at, key))]
    else:
        inner = []
    return [at, *inner] if at else inner


def _hostile(manifest: dict[str, Any], rng: random.Random) -> bytes:
    """Return a manifest with a value changed, moved or renamed."""
    text = json.dumps(manifest)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        changed = json.loads(text)
        *way, last = rng.choice(_places_of(changed))
        parent = changed
        for key in way:
            parent = parent[key]
        kind = rng.randrange(7)
        if kind == 0:
            parent[last] = rng.choice(_NUMBERS)
        elif kind == 1:
            parent[last] = rng.choice(_TEXTS)
        elif kind == 2:
            del parent[last]
        elif kind == 3 and isinstance(parent, dict):
            parent[rng.choice([*_TEXTS, "file", "bytes", "models", "tail_tokens"])] = parent[last]
        elif kind == 4:
            source: Any = changed
            for key in rng.choice(_places_of(changed)):
                source = source[key]
            parent[last] = json.loads(json.dumps(source))
        elif kind == 5 and isinstance(parent[last], list):
            parent[last] = [*parent[last], *parent[last][: rng.randrange(3)]]
        else:
            parent[last] = "HERE"
            return json.dumps(changed).replace('"HERE"', rng.choice(_RAW), 1).encode("utf-8", "surrogatepass")
        text = json.dumps(changed)
    return text.encode()


def _claim(campaign: Campaign) -> None:
    rng = campaign.rng
    places = _routers(campaign.folder)
    manifests = [editable_manifest(place / _MANIFEST) for place in places]
    for manifest in manifests:
        manifest["provenance"] = {"created": "2026-01-01", "data": [{"sha256": "0", "rows": 3}], "share": 0.5}
    again = campaign.folder / "again"
    for _ in range(campaign.count):
        which = rng.randrange(len(places))
        place = places[which]
        content = _hostile(manifests[which], rng)
        (place / _MANIFEST).write_bytes(content)
        what = f"the manifest {content[:20000]!r} of {place.name}"
        in_python = _verdict(lambda p=place: rf.load_router(p), what)
        in_c = _verdict(lambda p=place: CRouter(p), what)
        # C reads of a calibration the table, and runs the kinds and embedders that the core knows.
        is_same = in_python == in_c or _differs_for_a_reason(json.loads(content), manifests[which], in_python)
        assert is_same, f"{what}: {in_python}, in C {in_c}"
        campaign.tally[f"manifests {in_python}"] += 1
        if in_python == "loaded":
            own = read_artifact(place, ROUTER_LAYOUT).digest
            if _verdict(lambda p=place, d=own: rf.load_router(p, digest=d), what) == "refused":
                campaign.tally["of them refused with their own digest: mapped data are others than they say"] += 1
                continue
            _check_usable(place, again, what, is_in_c=in_c == "loaded")
    shutil.rmtree(again, ignore_errors=True)


def _differs_for_a_reason(manifest: dict[str, Any], sound: dict[str, Any], in_python: str) -> bool:
    """Whether C may read a manifest otherwise than Python does; docs/artifact-format.md says in what."""
    if in_python == "refused":
        return json.dumps(manifest["calibration"]) != json.dumps(sound["calibration"])  # True is equal to 1
    embedder = manifest["embedder"] or {}
    return manifest["kind"] not in ("mf", "sw_ranking") or embedder.get("kind") == "shipped"


def _check_usable(place: Path, again: Path, what: str, *, is_in_c: bool) -> None:
    """What loads is shown, saved again and loaded again, with the same win rates, in C as well."""
    router = rf.load_router(place)
    json.dumps(router.facts, allow_nan=False)
    digest = router.save(again)
    same = rf.load_router(again, digest=digest)
    assert same.save(again) == digest, f"{what}: saved twice, and not the same"
    assert same.model_pair == router.model_pair, f"{what}: other models after saving"
    if not router.has_embedder:  # type: ignore[attr-defined]
        return
    try:
        rates = router.win_rates(_PROMPTS)
    except rf.RouteLLMError:
        return
    assert ((rates >= 0) & (rates <= 1)).all(), f"{what}: win rates {rates}"
    assert np.array_equal(rates, same.win_rates(_PROMPTS)), f"{what}: other win rates after saving"
    if is_in_c:
        in_c = CRouter(place)
        if in_c.reads_text:
            found = in_c.win_rates([prompt.encode() for prompt in _PROMPTS])
            assert np.array_equal(rates, found), f"{what}: other win rates in C"
        names = tuple(name.encode("utf-8", "surrogatepass").decode("utf-8", "replace") for name in router.model_pair)
        assert (in_c.text("strong_model"), in_c.text("weak_model")) == names, f"{what}: other names in C"


ATTACKS = [
    Attack(
        name="router directories, damaged",
        tried="bits or bytes of one file of a router directory are changed; it is loaded in Python and in C, with and "
        "without its digest.",
        held="a change of any file but the model card is refused by name: at loading, or in the data of mapped tensors "
        "with the digest.",
        unit="changes",
        whole=30_000,
        brief=300,
        run=_flip,
    ),
    Attack(
        name="manifests that claim anything",
        tried="a value of a manifest is replaced, moved, renamed or broken; it is loaded in Python and in C.",
        held="both refuse it by name, or both load it; what loads is saved and loaded again with the same win rates.",
        unit="manifests",
        whole=30_000,
        brief=300,
        run=_claim,
    ),
]
