"""One parser: Python, C and verifying take and refuse the same documents, with the same meaning."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest

import routellm_fast as rf
from routellm_fast import _core, cli
from routellm_fast.artifact import ROUTER_LAYOUT, verify_artifact
from routellm_fast.json_file import parse_json, read_json, read_json_object
from tests.support.builders import mf_router, tokenizer_json
from tests.support.c_library import BAD_DIRECTORY, CRouter, LibraryError
from tests.support.manifests import editable_manifest

# Values that are read, as they stand in a manifest.
TAKEN = {
    "nested 62 deep": b"[" * 62 + b"]" * 62,  # 64 with provenance and the document itself
    "the largest float": b"1.7976931348623157e308",
    "rounds to the largest float": b"1.79769313486231580e308",
    "309 digits": b"1" + b"0" * 308,
    "2^63": b"9223372036854775808",
    "-2^63 - 1": b"-9223372036854775809",
    "2^53 + 1": b"9007199254740993",
    "minus zero": b"-0",
    "minus zero, a float": b"-0.0",
    "below the smallest float": b"1e-999",
    "the smallest float": b"5e-324",
    "an exponent with a plus": b"1E+2",
    "a lone surrogate": b'"\\ud800"',
    "surrogates the wrong way round": b'"\\udc00\\ud800"',
    "a surrogate pair": b'"\\ud83d\\ude00"',
    "a lone surrogate as a key": b'{"\\ud800": 1}',
    "a zero character": b'"\\u0000"',
    "a zero character in a key": b'{"a\\u0000": 1}',
    "U+FFFD": b'"\xef\xbf\xbd"',
    "an empty key": b'{"": 1}',
    "keys that differ by case": b'{"a": 1, "A": 2}',
    "keys that look alike": '{"é": 1, "e\u0301": 2}'.encode(),
    "a byte order mark in a string": b'"\xef\xbb\xbf"',
    "escapes": b'"\\"\\\\\\/\\b\\f\\n\\r\\t"',
    "blanks": b" \t\r\n [ 1 ,\n2 ] ",
}
REFUSED = {
    "nested 63 deep": b"[" * 63 + b"]" * 63,
    "nested 900 deep": b"[" * 900 + b"]" * 900,
    "objects nested 900 deep": b'{"a":' * 900 + b"1" + b"}" * 900,
    "beyond float64": b"1e999",
    "below float64": b"-1e999",
    "rounds beyond float64": b"1.7976931348623159e308",
    "310 digits": b"1" + b"0" * 309,
    "5,000 digits": b"1" * 5000,
    "a key twice": b'{"a": 1, "a": 1}',
    "a key twice, escaped": b'{"a": 1, "\\u0061": 1}',
    "a key twice, far apart": b'{"a": 1, "b": {"a": 1}, "c": [], "a": 2}',
    "NaN": b"NaN",
    "Infinity": b"-Infinity",
    "a leading zero": b"01",
    "a leading plus": b"+1",
    "no digit before the point": b".5",
    "no digit after the point": b"1.",
    "hexadecimal": b"0x10",
    "a comment": b"1 /* one */",
    "a comma too many": b"[1,]",
    "single quotes": b"'a'",
    "an unknown escape": b'"\\x41"',
    "half an escape": b'"\\u12"',
    "a control character": b'"\x1f"',
    "a line feed in a string": b'"a\nb"',
    "not UTF-8": b'"\xff"',
    "UTF-8 that is too long": b'"\xc0\xaf"',
    "a surrogate in UTF-8": b'"\xed\xa0\x80"',
    "beyond U+10FFFF": b'"\xf4\x90\x80\x80"',
    "a no-break space outside of a string": b"\xc2\xa01",
    "True": b"True",
}
ENCODINGS = ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"]


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("json") / "router"
    mf_router().save(path)
    return path


def with_value(pristine: Path, place: Path, value: bytes) -> Path:
    shutil.copytree(pristine, place, dirs_exist_ok=True)
    manifest = editable_manifest(pristine / "router.json")
    manifest["provenance"] = {"x": "HERE"}
    (place / "router.json").write_bytes(json.dumps(manifest).encode().replace(b'"HERE"', value))
    return place


def verdicts(place: Path) -> dict[str, str]:
    """What each reader says; the words of C are those of Python."""
    found = {}
    for name, read in (
        ("Python", rf.load_router),
        ("C", CRouter),
        ("verify", lambda path: verify_artifact(path, ROUTER_LAYOUT)),
    ):
        try:
            read(place)
            found[name] = "taken"
        except (rf.ArtifactFormatError, LibraryError) as error:
            found[name] = str(error) if getattr(error, "status", BAD_DIRECTORY) == BAD_DIRECTORY else repr(error)
    return found


def same(a: Any, b: Any) -> bool:
    """Equal in value, type and sign of zero."""
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return isinstance(b, list) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and a == b and (not isinstance(a, float) or math.copysign(1, a) == math.copysign(1, b))


@pytest.mark.parametrize("name", TAKEN)
def test_a_document_that_is_taken_is_taken_by_all_shown_saved_and_means_what_python_reads(
    pristine: Path, tmp_path: Path, name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    place = with_value(pristine, tmp_path / "router", TAKEN[name])
    assert set(verdicts(place).values()) == {"taken"}
    expected = json.loads(TAKEN[name])
    assert same(parse_json(TAKEN[name], "here"), expected)
    loaded = rf.load_router(place)
    assert same(loaded.provenance["x"], expected)
    loaded.save(tmp_path / "again")
    assert same(rf.load_router(tmp_path / "again").provenance["x"], expected)
    assert set(verdicts(tmp_path / "again").values()) == {"taken"}
    for options in ([], ["--json"], ["--verify"]):
        assert cli.main(["info", str(place), *options]) == 0
    assert capfd.readouterr().err == ""


def test_what_is_taken_is_exported(pristine: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    from routellm_fast.export import export_onnx

    values = b"[" + b",".join(value for name, value in TAKEN.items() if "nested" not in name) + b"]"
    export_onnx(with_value(pristine, tmp_path / "router", values), tmp_path / "out")


@pytest.mark.parametrize("name", REFUSED)
def test_a_document_that_is_refused_is_refused_by_all_in_the_same_words(
    pristine: Path, tmp_path: Path, name: str
) -> None:
    place = with_value(pristine, tmp_path / "router", REFUSED[name])
    found = verdicts(place)
    assert len(set(found.values())) == 1, found
    assert "router.json is not valid JSON" in found["C"]
    assert " at byte " in found["C"]
    with pytest.raises(rf.ArtifactFormatError, match="here is not valid JSON"):
        parse_json(
            b'{"a": [' + REFUSED[name] + b"]}" if "nested" not in name else b"[[" + REFUSED[name] + b"]]", "here"
        )


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("file", ["router.json", "tokenizer.json"])
def test_json_is_utf8_without_a_byte_order_mark(pristine: Path, tmp_path: Path, file: str, encoding: str) -> None:
    place = tmp_path / "router"
    shutil.copytree(pristine, place)
    manifest = editable_manifest(place / "router.json")
    if file == "tokenizer.json":
        content = tokenizer_json().decode().encode(encoding)
        (place / file).write_bytes(content)
        manifest["files"][file] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        (place / "router.json").write_text(json.dumps(manifest))
    else:
        (place / file).write_bytes(json.dumps(manifest).encode(encoding))
    found = verdicts(place)
    # Verifying is about bytes: what a tokenizer.json says is the embedder's matter.
    assert found.pop("verify") != "taken" or file == "tokenizer.json"
    assert len(set(found.values())) == 1, found
    assert "a byte order mark" in found["C"] or "UTF-16 or UTF-32" in found["C"]


def test_a_tokenizer_is_read_by_one_rule(pristine: Path, tmp_path: Path) -> None:
    whole = tokenizer_json()
    for k, content in enumerate(
        (
            whole.replace(b'"hello": 4', b'"hello": 4, "hello": 4'),
            whole.replace(b'"hello": 4', b'"hello": 1e999'),
            whole.replace(b'"hello": 4', b'"hello": 4.0'),
            whole.replace(b'"hello": 4', b'"hello": -4'),
            whole.replace(b'"hello": 4', b'"hello": 4294967296'),
            whole.replace(b'"version": "1.0"', b'"version": ' + b"[" * 900 + b"]" * 900),
            whole.replace(b'"version": "1.0"', b'"version": ' + b"1" * 5000),
            b"[]",
            b"",
        )
    ):
        place = tmp_path / str(k)
        shutil.copytree(pristine, place)
        (place / "tokenizer.json").write_bytes(content)
        manifest = editable_manifest(place / "router.json")
        manifest["files"]["tokenizer.json"] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        (place / "router.json").write_text(json.dumps(manifest))
        found = verdicts(place)
        assert found["Python"] == found["C"] != "taken", found


def test_files_of_a_user_s_own_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "prices.json"
    path.write_bytes(b'\xef\xbb\xbf{"a": 1}')
    assert read_json(path) == {"a": 1}
    with pytest.raises(rf.ArtifactFormatError, match=r"prices\.json is not valid JSON \(a byte order mark"):
        read_json_object(path)
    path.write_text('{"a": 1, "a": 2}')
    with pytest.raises(rf.DataError, match="stands twice"):
        read_json(path)


def test_other_programs_folders_are_read_by_the_same_rule(tmp_path: Path) -> None:
    from routellm_fast.routers import MatrixFactorizationRouter
    from tests.support.builders import model2vec_folder

    checkpoint = Path(__file__).resolve().parents[2] / "parity" / "routellm_checkpoint"
    shutil.copytree(checkpoint, tmp_path / "checkpoint")
    folder = model2vec_folder(tmp_path / "model2vec")
    for content in (b"[" * 900, b'{"normalize": 1, "normalize": 2}', '{"max_length": 5}'.encode("utf-16"), b"1e999"):
        (tmp_path / "checkpoint" / "config.json").write_bytes(content)
        (folder / "config.json").write_bytes(content)
        with pytest.raises(rf.ArtifactFormatError, match=r"config\.json is not valid JSON"):
            MatrixFactorizationRouter.from_routellm(tmp_path / "checkpoint", embedder=None)
        with pytest.raises(rf.ArtifactFormatError, match=r"config\.json is not valid JSON"):
            rf.StaticEmbedder.load(folder)


def test_the_parser_takes_bytes_only() -> None:
    with pytest.raises(TypeError):
        _core.parse_json(7)  # type: ignore[arg-type]
