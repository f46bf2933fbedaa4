"""Tables as other programs write them: one rule for every reader."""

from __future__ import annotations

import csv
import gzip
import io
import json
from pathlib import Path

import pytest

from routellm_fast import DataError
from routellm_fast.json_file import read_json
from routellm_fast.tables import LeftOut, Row, check_name, csv_writer, form_of, read_table, usable


def rows(path: Path, content: str | bytes, **options: LeftOut) -> list[dict[str, object]]:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return [dict(row.values) for row in read_table(path, **options)]


@pytest.mark.parametrize(
    ("cell", "number"),
    [
        *((word, 1.0) for word in ("TRUE", "true", "True", "Yes", "yes", "1", "1.0", True, 1)),
        *((word, 0.0) for word in ("FALSE", "false", "No", " no ", "0", False)),
        *((empty, None) for empty in ("", "  ", None)),
        (" 0.5 ", 0.5),
    ],
)
def test_true_and_false_and_empty_cells(cell: object, number: float | None) -> None:
    assert Row(Path("t.csv"), 2, {"m": cell}).number("m") == number
    assert Row(Path("t.csv"), 2, {}).number("m") is None


@pytest.mark.parametrize(
    ("cell", "words"), [("0,5", "decimals with a point"), ("NaN", "Leave the cell empty"), ("maybe", "found 'maybe'$")]
)
def test_cells_that_are_no_numbers_say_what_to_do(cell: str, words: str) -> None:
    with pytest.raises(DataError, match=f"t.csv, line 2: 'm' must be a finite number.*{words}"):
        Row(Path("t.csv"), 2, {"m": cell}).number("m")


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("name", ["t.csv", "t.CSV", "t.Csv.GZ"])
def test_separators_and_capital_letters_are_read(tmp_path: Path, name: str, separator: str) -> None:
    content = f'prompt{separator}"gpt-4 (chat, 2023; new)"\n"a{separator}b"{separator}1\n'.encode()
    found = rows(tmp_path / name, gzip.compress(content) if name.endswith("GZ") else content)
    assert found == [{"prompt": f"a{separator}b", "gpt-4 (chat, 2023; new)": "1"}]
    assert form_of(Path("T.JSONL.gz")) == "jsonl"
    assert form_of(Path("t.PARQUET")) == "parquet"


def test_a_name_that_is_no_table_s_says_what_is() -> None:
    with pytest.raises(DataError, match="t.tsv must be a table: .*tabs or semicolons is CSV too"):
        check_name(Path("t.tsv"))


@pytest.mark.parametrize("name", ["t.csv", "t.jsonl"])
@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_utf_16_has_one_message(tmp_path: Path, name: str, encoding: str) -> None:
    path = tmp_path / name
    path.write_bytes('{"prompt": "hi"}\nhi\n'.encode(encoding))
    with pytest.raises(DataError, match=f"{name} is UTF-16, expected UTF-8: save it as UTF-8"):
        list(read_table(path))
    with pytest.raises(DataError, match=f"{name} is UTF-16, expected UTF-8: save it as UTF-8"):
        read_json(path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (gzip.compress(b"prompt\nhi\n", mtime=0), "does not end with .gz"),
        (b"PK\x03\x04rest", "is a workbook"),
        (b"PAR1rest", "is Parquet"),
        ("prompt\ncaf\u00e9\n".encode("latin-1"), "is not UTF-8 .*: save it as UTF-8"),
    ],
)
def test_files_of_another_kind_say_which(tmp_path: Path, content: bytes, words: str) -> None:
    with pytest.raises(DataError, match=words):
        rows(tmp_path / "t.csv", content)


def test_json_files_may_have_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "t.json").write_text('{"a": 1}', encoding="utf-8-sig")
    assert read_json(tmp_path / "t.json") == {"a": 1}


def test_headers_without_names_and_blank_rows(tmp_path: Path) -> None:
    found = rows(tmp_path / "t.csv", "\n,prompt, big ,\n\n0,hi,1,\n , ,,\n,,,\n   \n1,ho,0,\n")
    assert found == [
        {"Unnamed: 0": "0", "prompt": "hi", "big": "1", "Unnamed: 3": ""},
        {"Unnamed: 0": " ", "prompt": " ", "big": "", "Unnamed: 3": ""},
        {"Unnamed: 0": "1", "prompt": "ho", "big": "0", "Unnamed: 3": ""},
    ]
    assert [row.line for row in read_table(tmp_path / "t.csv")] == [4, 5, 8]
    assert rows(tmp_path / "one.csv", 'prompt\n\n""\nhi\n') == [{"prompt": ""}, {"prompt": "hi"}]


def test_zero_characters_are_read_on_every_python(tmp_path: Path) -> None:
    assert rows(tmp_path / "t.csv", "prompt,m\na\0b,1\n") == [{"prompt": "a\ufffdb", "m": "1"}]


def test_lines_that_are_no_rows_are_left_out_and_named(tmp_path: Path) -> None:
    left_out = LeftOut()
    found = rows(tmp_path / "t.csv", "prompt,m\na,1\nb\nc,1,2\nd,0\n", left_out=left_out)
    assert [row["prompt"] for row in found] == ["a", "d"]
    assert (left_out.rows, len(left_out.named)) == (2, 2)
    assert left_out.named[0].endswith("t.csv, line 3: found 1 cells, expected 2 as in the header")
    found = rows(tmp_path / "t.jsonl", '{"a"\n\n{"a": 1}\n[1]\n', left_out=left_out)
    assert (found, left_out.rows) == ([{"a": 1}], 4)
    assert "t.jsonl, line 1: not valid JSON" in left_out.named[2]
    for strict in ({}, {"left_out": LeftOut(strict=True)}):
        with pytest.raises(DataError, match="line 1: not valid JSON"):
            rows(tmp_path / "t.jsonl", '{"a"\n{"a": 1}\n', **strict)


def test_a_file_of_which_no_row_can_be_read_is_an_error(tmp_path: Path) -> None:
    left_out = LeftOut()
    with pytest.raises(DataError, match="line 2: found 1 cells.* None of the 3 rows can be read"):
        rows(tmp_path / "t.csv", "prompt,m\na\nb\nc\n", left_out=left_out)
    assert left_out.rows == 0, "the error says it all"


def test_only_the_first_ten_rows_are_named_and_all_are_counted() -> None:
    def read(number: int) -> int:
        if number % 2:
            raise DataError(f"row {number}")
        return number

    said: list[str] = []
    left_out = LeftOut(say=said.append)
    assert list(usable(range(1, 51), read, left_out)) == list(range(2, 51, 2))
    assert (left_out.rows, len(left_out.named)) == (25, 10)
    assert said[:2] == ["left out: row 1", "left out: row 3"]
    assert len(said) == 10


@pytest.mark.parametrize("header", [["prompt", "m"], ["a;b", "prompt"], ["a\tb", "c"], ["a,b", "c;d"], ["a"]])
def test_written_csv_is_read_as_the_same_cells(tmp_path: Path, header: list[str]) -> None:
    cells = ["plain", "two\nlines", "a\rb", "a\r\nb", 'say "hi"', "a,b;c\td", "", " x ", "\u2028", "=1+1", "\ufeffx"]
    stream = io.StringIO(newline="")
    write = csv_writer(stream)
    write(header)
    for cell in cells:
        write([cell] * len(header))
    (tmp_path / "t.csv").write_text(stream.getvalue(), encoding="utf-8", newline="")
    kept = [cell for cell in cells if cell or len(header) == 1]
    assert [list(row.values.values()) for row in read_table(tmp_path / "t.csv")] == [[c] * len(header) for c in kept]
    plain = io.StringIO(newline="")
    writer = csv.writer(plain, lineterminator="\n")
    writer.writerows([["prompt"], ["a;b"]])
    again = io.StringIO(newline="")
    write = csv_writer(again)
    write(["prompt"])
    write(["a;b"])
    assert again.getvalue() == plain.getvalue(), "what needs no quotes keeps its bytes"


def test_a_row_s_error_is_short_whatever_the_cell_holds() -> None:
    with pytest.raises(DataError) as error:
        Row(Path("t.jsonl"), 1, {"prompt": json.loads("[" + "1," * 9999 + "1]")}).text("prompt")
    assert len(str(error.value)) < 200
