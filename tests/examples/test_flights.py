"""Delays by carrier over CSV in parts are those of pandas over the whole."""

from __future__ import annotations

import random
from pathlib import Path

import pandas as pd
import pytest

from examples.flights import DelaysByCarrier
from fanout import sources


@pytest.fixture
def flights(tmp_path: Path) -> list[Path]:
    """Two files of flights, some of which never arrived."""
    chance = random.Random(1)
    paths = [tmp_path / "january.csv", tmp_path / "february.csv"]
    for path in paths:
        rows = (
            f"2013,{chance.choice(['UA', 'AA', 'B6', 'F9'])},{chance.choice(['NA', '', chance.randrange(-60, 300)])}"
            for _ in range(400)
        )
        path.write_text("\n".join(["year,carrier,arr_delay", *rows]))
    return paths


@pytest.mark.parametrize("part_bytes", [50, 1000, 2**20])
def test_delays_by_carrier(flights: list[Path], part_bytes: int) -> None:
    """For any size of parts, the means are those of pandas, the worst first."""
    found = DelaysByCarrier.run({"flights": sources.csv(flights), "part_bytes": part_bytes})
    frame = pd.concat([pd.read_csv(path) for path in flights])
    expected = frame.groupby("carrier")["arr_delay"].mean().sort_values(ascending=False)
    assert list(found) == list(expected.index)
    assert list(found.values()) == pytest.approx(list(expected))
