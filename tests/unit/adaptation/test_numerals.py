from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routellm_fast.adaptation.numerals import Number, boxed, last_number


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("42", 42.0),
        ("The answer is 42.", 42.0),
        ("First 7, then 42", 42.0),
        ("-5", -5.0),
        ("so x = \N{MINUS SIGN}5", -5.0),
        ("3-5", 5.0),  # a range
        ("(2)-5", 5.0),
        ("1,234,567.5", 1234567.5),
        ("1'234", 1234.0),
        ("1_000_000", 1e6),
        ("1\N{NO-BREAK SPACE}234", 1234.0),
        ("1\N{NARROW NO-BREAK SPACE}234\N{NARROW NO-BREAK SPACE}567", 1234567.0),
        ("1.234.567", 1234567.0),
        ("3,5", 3.5),
        ("1,2345", 1.2345),
        ("12, 7", 7.0),
        (".5", 0.5),
        ("3/4", 0.75),
        ("3 / 4", 0.75),
        ("1 1/2 cups", 1.5),
        ("-1/2", -0.5),
        (r"$\frac{3}{4}$", 0.75),
        (r"\dfrac{1}{8}", 0.125),
        ("2e-3", 0.002),
        ("6.02 x 10^23", 6.02e23),
        ("6.02 × 10²³", 6.02e23),
        (r"$1.5 \times 10^{-4}$", 1.5e-4),
        (r"$1{,}234$", 1234.0),
        ("$1,200", 1200.0),
        ("-$50", -50.0),
        ("€ 30", 30.0),
        ("12 cm^2", 12.0),
        ("5 m/s", 5.0),
        ("8 g of H2O", 8.0),
        ("3 with x_1", 3.0),
        ("答案是42", 42.0),
        ("5 cm^{2}", 5.0),
        (r"\boxed{5} km^2, as 7 said", 5.0),
        (r"\boxed{\frac{1}{2}} or 9", 0.5),
        ("60 / 2 = 30 #### 30 (2 steps before)", 2.0),
        ("it is 5 #### none", 5.0),
        ("10", 10.0),
        ("0", 0.0),
    ],
)
def test_numbers_as_people_and_models_write_them(text: str, value: float) -> None:
    found = last_number(text)
    assert found is not None
    assert found.value == pytest.approx(value, rel=1e-12)
    assert not found.is_percent


@pytest.mark.parametrize("text", ["", "none", "H2O", "x_1", "cm^2", "1" * 500, "1e9999", "½"])
def test_no_number(text: str) -> None:
    assert last_number(text) is None


@pytest.mark.parametrize("text", ["12.5 %", "12.5%", "12.5 percent", "12,5 per cent", r"$12.5\%$"])
def test_percentages(text: str) -> None:
    assert last_number(text) == Number(12.5, is_percent=True)


def test_a_percentage_is_its_share_too() -> None:
    half, percent = Number(0.5, is_percent=False), Number(50.0, is_percent=True)
    assert half.equals(percent)
    assert percent.equals(half)
    assert Number(50.0, is_percent=False).equals(percent)
    assert not Number(5.0, is_percent=False).equals(percent)
    assert not Number(0.5, is_percent=True).equals(percent)


def test_tolerances() -> None:
    ten, eleven = Number(10.0, is_percent=False), Number(11.0, is_percent=False)
    assert not ten.equals(eleven)
    assert ten.equals(eleven, absolute=1.0)
    assert not ten.equals(eleven, absolute=0.9)
    assert ten.equals(eleven, relative=0.1)
    assert not ten.equals(eleven, relative=0.09)
    assert Number(0.1 + 0.2, is_percent=False).equals(Number(0.3, is_percent=False))


@given(st.floats(min_value=-1e12, max_value=1e12, allow_nan=False))
def test_what_python_writes_is_read_back(value: float) -> None:
    for text in (repr(value), f"The answer is {value!r}.", f"**{value!r}**"):
        found = last_number(text)
        assert found is not None
        assert found.value == value


@given(st.integers(min_value=-(10**15), max_value=10**15), st.sampled_from([",", "_", "'", "\u202f", "\u2019"]))
def test_separators_of_thousands_do_not_count(value: int, separator: str) -> None:
    found = last_number(f"about {value:,} metres".replace(",", separator))
    assert found is not None
    assert found.value == value


@given(st.text(max_size=200))
def test_any_text_is_read(text: str) -> None:
    found = last_number(text)
    assert found is None or abs(found.value) < float("inf")
    boxed(text)


def test_boxes_may_hold_braces_and_may_stay_open() -> None:
    assert boxed(r"\boxed{1} and \boxed{a_{2}}.") == "a_{2}"
    assert boxed(r"\boxed{3 and on") == "3 and on"
    assert boxed("none") is None


@pytest.mark.parametrize("text", ["1" * 300_000, "1," * 100_000, "1 " * 100_000, "1/" * 100_000, r"\boxed{" * 50_000])
def test_long_texts_take_time_in_proportion(text: str) -> None:
    last_number(text)
