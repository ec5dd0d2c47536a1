"""The page of results has a place for every benchmark, and takes its table there."""

from __future__ import annotations

import pytest

from benchmarks.__main__ import ALL
from benchmarks.report import PAGE, with_table

HOW = {"machine": "2 cores", "date": "2026-11-21", "command": "make bench-cycle"}


@pytest.mark.parametrize("name", ALL)
def test_every_benchmark_has_a_place_on_the_page(name: str) -> None:
    page = with_table(PAGE.read_text(), name, [{"way": "raw socket", "median_ms": 1.5}], HOW)
    assert "| way | median ms |\n| --- | --- |\n| raw socket | 1.5 |\n" in page


def test_a_table_takes_the_place_of_the_one_before_and_of_nothing_else() -> None:
    page = "# A\n<!-- cycle -->\n| old |\n<!-- end of cycle -->\nafter\n"
    told = with_table(page, "cycle", [{"parameters": 11_000_000, "note": ""}], HOW)
    table = "| parameters | note |\n| --- | --- |\n| 11,000,000 |  |\n\n2026-11-21, 2 cores, `make bench-cycle`\n"
    assert told == f"# A\n<!-- cycle -->\n{table}<!-- end of cycle -->\nafter\n"


def test_a_benchmark_without_a_place_is_said_by_name() -> None:
    with pytest.raises(ValueError, match="no place for weather"):
        with_table("# A\n", "weather", [{"what": "rain"}], HOW)
