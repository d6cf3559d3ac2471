"""No cell of a CSV for people is a formula, and what reads it again gets the text as it was."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.foundation.spreadsheets import cell_text, safe_cell, safe_row


@pytest.mark.parametrize("text", ["=1+1", "+1+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", "'=1", "-", "-x"])
def test_a_formula_gets_an_apostrophe(text):
    assert safe_cell(text) == "'" + text


@pytest.mark.parametrize("value", ["", "t-shirt", "The_Eiffel_Tower", "-5", "-0.25", "'tis", "5", 7, -7, 0.5, None])
def test_words_and_numbers_stay(value):
    assert safe_cell(value) == value


@given(st.text(alphabet="'=+-@\t\r\na1.", max_size=6))
def test_every_text_comes_back_and_no_cell_is_a_formula(text):
    cell = safe_row([text])[0]
    assert cell_text(cell) == text
    assert cell[:1] not in set("=+@\t\r\n")
    assert not cell.startswith("-") or float(cell) <= 0
