"""Dates as text: the format of a column, and the seconds since 1970, which Python's datetime also gives."""

from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pandas as pd
import pytest

from mmad_utils.datasets.date_format import date_format, has_day, parse_dates

WHEN = datetime(2024, 2, 25, 15, 45, 7, tzinfo=UTC)
FORMS = {  # cell: format
    "2024-02-25": "%Y-%m-%d", "25.02.2024": "%d.%m.%Y", "02/25/2024": "%m/%d/%Y", "25/2/2024": "%d/%m/%Y",
    "25.02.24": "%d.%m.%y", "25 Feb 2024": "%d %b %Y", "February 25, 2024": "%B %d, %Y",
    "2024年2月25日": "%Y年%m月%d日",
    "2024-02-25 15:45": "%Y-%m-%d %H:%M", "2024-02-25T15:45:07": "%Y-%m-%dT%H:%M:%S",
    "25.02.2024 3:45 PM": "%d.%m.%Y %I:%M %p", "2024-02-25 15:45:07Z": "%Y-%m-%d %H:%M:%S%z",
    "2024-02-25 15:45:07 +00:00": "%Y-%m-%d %H:%M:%S %z", "2024年2月25日 15时45分": "%Y年%m月%d日 %H时%M分",
}  # fmt: skip


def text(*cells):
    return pd.Series(cells, dtype="str")


def seconds(*when):
    return [moment.replace(tzinfo=moment.tzinfo or UTC).timestamp() for moment in when]


@pytest.mark.parametrize(("cell", "form"), FORMS.items(), ids=FORMS.values())
def test_a_format_is_recognised_and_read_as_datetime_reads_it(cell, form):
    assert date_format(text(cell, cell), 1.0)[0] == form and has_day(form)
    moment = WHEN.replace(
        hour=15 if ":" in cell or "时" in cell else 0,
        minute=45 if ":" in cell or "时" in cell else 0,
        second=7 if "07" in cell else 0,
    )
    assert parse_dates(text(cell), form).tolist() == seconds(moment)


def test_cells_that_are_missing_or_of_another_format_are_nan():
    cells = text("25.02.2024", None, "2024-02-25", "25.02.2024", "26.02.2024")
    day = seconds(datetime(2024, 2, 25))[0]
    np.testing.assert_array_equal(parse_dates(cells, "%d.%m.%Y"), [day, np.nan, np.nan, day, day + 86_400])


def test_a_time_of_day_has_no_day_and_differences_in_seconds():
    assert not has_day("%H:%M") and date_format(text("07:30", "18:05"), 1.0) == ("%H:%M", "")
    early, late = parse_dates(text("07:30", "18:05"), "%H:%M")
    assert late - early == (10 * 60 + 35) * 60


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_columns_of_dates_are_in_universal_time(unit):
    when = [datetime(2024, 2, 25, 15, 45, 7), datetime(1969, 12, 31, 23, 59, 58)]
    expected = [*seconds(*when), np.nan]
    cells = pd.Series([*when, pd.NaT]).astype(f"datetime64[{unit}]")
    np.testing.assert_array_equal(parse_dates(cells, "%Y"), expected)  # the format is that of text
    east = cells.dt.tz_localize(timezone(timedelta(hours=8)))
    np.testing.assert_array_equal(parse_dates(east, "%Y"), np.array(expected) - 8 * 3600)


def test_cells_of_two_time_zones_are_read_as_universal_time():
    cells, form = text("2024-02-25 15:45+0100", "2024-02-25 15:45-0530"), "%Y-%m-%d %H:%M%z"
    assert date_format(cells, 1.0) == (form, "")
    hours = parse_dates(cells, form) - seconds(datetime(2024, 2, 25))[0]
    assert (hours / 3600).tolist() == [14.75, 21.25]


def test_dates_outside_of_what_nanoseconds_can_hold_are_nan():
    cells = text("1677-12-31", "1678-01-01", "2261-12-31", "2262-01-01", "9999-12-31")
    found = parse_dates(cells, "%Y-%m-%d")
    expected = seconds(datetime(1678, 1, 1), datetime(2261, 12, 31))
    np.testing.assert_array_equal(found, [np.nan, *expected, np.nan, np.nan])


def test_dates_that_can_be_read_in_two_ways_give_both_formats():
    assert date_format(text("01/02/2024", "03/04/2024"), 1.0) == ("%d/%m/%Y", "%m/%d/%Y")
    assert date_format(text("01/02/2024", "03/04/2024", "25/02/2024"), 1.0) == ("%d/%m/%Y", "")
    assert date_format(text("01/02/2024", "03/04/2024", "02/25/2024"), 1.0) == ("%m/%d/%Y", "")


def test_one_cell_of_many_decides_on_the_order_of_day_and_month():
    cells = [f"{1 + i % 12:02d}/{1 + i // 12:02d}/2024" for i in range(99)]
    assert date_format(text(*cells, "12/25/2024"), 0.95) == ("%m/%d/%Y", "")
    assert date_format(text(*cells, "25/12/2024"), 0.95) == ("%d/%m/%Y", "")


def test_dates_with_and_without_a_time_are_mixed():
    cells = text("2024-02-25", "2024-02-25 15:45", "2024-02-26T07:00:00.5")
    assert date_format(cells, 1.0) == ("ISO8601", "") and has_day("ISO8601")
    expected = seconds(datetime(2024, 2, 25), datetime(2024, 2, 25, 15, 45), datetime(2024, 2, 26, 7, 0, 0, 500_000))
    assert parse_dates(cells, "ISO8601").tolist() == expected


def test_the_share_of_readable_cells_counts_every_row():
    cells = ["25.02.2024"] * 10 + [f"{day}.03.2024" for day in range(10, 19)] + ["unknown"]
    assert date_format(text(*cells), 0.95) == ("%d.%m.%Y", "")
    assert date_format(text(*cells, "never"), 0.95) == ("", "")
    assert date_format(text("unknown", "25.02.2024"), 0.5) == ("%d.%m.%Y", "")
    assert date_format(text("red", "blue"), 0.0) == date_format(text(), 0.0) == ("", "")


def test_a_year_that_stands_for_never_counts_as_readable():
    assert date_format(text("2024-02-25", "9999-12-31", "0001-01-01"), 1.0) == ("%Y-%m-%d", "")
