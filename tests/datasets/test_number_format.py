"""Numbers as text: single cells read in a format, and the format that a column of cells shows."""

import numpy as np
import pandas as pd
import pytest

from mmad_utils.datasets.number_format import NumberFormat, detect_format, parse_numbers
from mmad_utils.datasets.record import DatasetError

CELLS = [  # decimal mark, unit, cell, value or None where it is no number of this format
    (".", "", "1,234.5", 1234.5), (".", "", "1,23,456", 123_456), (".", "", "12,34", None),
    (".", "", "1.2.3", None), (".", "", ".5", 0.5), (".", "", "5.", 5), (".", "", "(1.5)", -1.5),
    (".", "", "(1.5", None), (".", "", "-3", -3), (".", "", "1e3", 1000), (".", "", "2.5E-2", 0.025),
    (".", "", "True", 1), (".", "", "FALSE", 0), (".", "", "x", None), (".", "", "1'234.5", 1234.5),
    (".", "", "1 234", 1234), (".", "", "1 23", None), (".", "", "1,234,56", None),
    (".", "", "1,234'567", None), (".", "", "1.5,3", None), (".", "", "1234,567", None), (".", "", ",", None),
    (".", "$", "-$5", -5), (".", "$", "$-5", -5), (".", "$", "-$-5", None), (".", "$", "$5$", None),
    (".", "$", "5 $", 5), (".", "kg", "5 kg", 5), (".", "kg", "5", None), (".", "", "5 kg", None),
    (".", "m2", "5 m2", 5), (".", "°C", "5℃", 5), (",", "", "1.234,5", 1234.5), (",", "", "1.23", None),
    (",", "", ",5", 0.5), (",", "", "1.23.456,5", None), (",", "", "1 234,5", 1234.5), (",", "", "1,2,3", None),
    (",", "€", "1.234,50 €", 1234.5), (",", "%", "12,5%", 12.5),
]  # fmt: skip


@pytest.mark.parametrize(("decimal", "unit", "cell", "value"), CELLS, ids=[f"{c[0]} {c[1]} {c[2]}" for c in CELLS])
def test_a_cell_is_read_in_a_format(decimal, unit, cell, value):
    found = parse_numbers(pd.Series([cell, None, cell], dtype="str"), NumberFormat(decimal, unit))
    expected = np.nan if value is None else value
    np.testing.assert_array_equal(found, [expected, np.nan, expected])


def column(*cells):
    return pd.Series(cells, dtype="str")


NUMBERS = [f"{i}.5" for i in range(11)]


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["1"] * 300 + ["a", "b", "c", "d", "e"], NumberFormat()),  # 98% of the rows
        ([*NUMBERS, *"abcde", *"aaabbb"], NumberFormat()),  # half of the rows, eleven numbers beside five words
        ([*NUMBERS, *"abcdef"], None),  # six words
        ([*NUMBERS[:10], *"abcde"], None),  # ten numbers
        ([*NUMBERS, *"abcde", *"aaabbbc"], None),  # fewer than half of the rows
        ([f"{i}" for i in range(19)] + ["x"], NumberFormat()),
        ([f"{i} kg" for i in range(3)] * 6 + ["x"], None),
        (["1,5", "2.5", "a", "b", "c"], None),
        (["5 kg", "6 g", "7 kg", "word", "other"], None),
        ([f"{i} cm" for i in range(30)] + ["x"], NumberFormat(".", "cm")),
        (["5 kg", "6 kg", "7 apples"], None),
        (["007", "12"], None),
        (["True", "FALSE"], NumberFormat()),
        (["5 kg"] * 19 + ["7 zz"], NumberFormat(".", "kg")),
        ([*NUMBERS, *["1.2.3", "2.3.4"] * 6], None),  # the cells with two points are no numbers
        (["1,5", *(f"{i},024" for i in range(1, 11))], NumberFormat(",")),
        ([], None),
        ([None, None], None),
        ([f"{i},5" for i in range(1500)], NumberFormat(",")),
        ([f"word {i}" for i in range(1500)] + ["1,5", "1.5"] * 900, None),
        (["1.034,5", "1,5"], NumberFormat(",")),
        (["1,034.5", "1"], NumberFormat(".")),
        (["1.234.567", "2"], NumberFormat(",")),
        (["1,234,567", "2"], NumberFormat(".")),
        ([f"{i},024" for i in range(1, 11)] + ["17"], NumberFormat(".")),
        (["0,024", "17"], NumberFormat(",")),
        (["1,5", *(f"{i},25" for i in range(60)), "2.5"], NumberFormat(",")),
    ],
)
def test_a_column_shows_its_format_or_none(cells, expected):
    assert detect_format(column(*cells), "c") == expected


UNITS = "Convert the column to one unit, or name it in text= to keep it as text."
MARKS = "Write all numbers in one way, or choose with decimal='.' or decimal=','."


@pytest.mark.parametrize(
    ("cells", "rows", "message"),
    [
        (
            [*(f"{i},024" for i in range(1, 11)), "1500"],
            None,
            "c, row 1: '1,024' can be read in two ways: 1024 if ',' separates thousands, 1.024 if it is the decimal "
            "mark. Choose with decimal='.' or decimal=','.",
        ),
        (
            ["1,5", *(f"{i},024" for i in range(1, 31))],
            None,
            "c, row 2: '1,024' can be read in two ways: 1024 if ',' separates thousands, 1.024 if it is the decimal "
            "mark. Choose with decimal='.' or decimal=','.",
        ),
        (
            ["word", *["5 mA"] * 10, *["6 A"] * 9],
            None,
            f"c, row 12: '6 A', but row 2: '5 mA': the unit is not the same in all cells. {UNITS}",
        ),
        (
            ["5", "6 A", "7 A"],
            [7, 8, 9],
            f"c, row 7: '5', but row 8: '6 A': the unit is not the same in all cells. {UNITS}",
        ),
        (["1,5", "2.5"], None, f"c, row 2: '2.5' has a decimal point, row 1: '1,5' a decimal comma. {MARKS}"),
        (
            ["1,5", "2." + "5" * 60],
            [4, 6],
            f"c, row 6: '2.{'5' * 38}' has a decimal point, row 4: '1,5' a decimal comma. {MARKS}",
        ),
        (
            ["1,024", "1500"],
            None,
            "c, row 1: '1,024' can be read in two ways: 1024 if ',' separates thousands, 1.024 if it is the decimal "
            "mark. Choose with decimal='.' or decimal=','.",
        ),
    ],
)
def test_a_column_with_two_readings_is_refused_with_both_places(cells, rows, message):
    with pytest.raises(DatasetError) as caught:
        detect_format(column(*cells), "c", rows)
    assert str(caught.value) == message


def test_marks_of_other_columns_decide_where_a_column_shows_none():
    cells = column("1.024", "950")
    assert detect_format(cells, "c") == detect_format(cells, "c", marks=frozenset(".")) == NumberFormat(".")
    assert detect_format(cells, "c", marks=frozenset(",")) == NumberFormat(",")
    with pytest.raises(DatasetError, match=r"two ways: 1024 if '.' separates"):
        detect_format(cells, "c", marks=frozenset())
    commas = column("1,024", "950")
    assert detect_format(commas, "c", marks=frozenset(".")) == NumberFormat(".")
    assert detect_format(commas, "c", decimal=",") == NumberFormat(",")
    with pytest.raises(DatasetError, match=r"two ways: 1024 if ',' separates"):
        detect_format(commas, "c", marks=frozenset(","))
