"""Frames, series and indexes of pandas are restored exactly, column by column, or refused."""

from __future__ import annotations

import datetime
import decimal
import subprocess
import sys
import zoneinfo
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import pandas as frames

from storage import MissingPackage, SequenceEncoder, Unencodable, decode, encode

law = settings(max_examples=40)

BERLIN = zoneinfo.ZoneInfo("Europe/Berlin")
DAYS = pd.date_range("2024-03-30", periods=3, freq="D", tz=BERLIN)
VALUES: dict[str, Any] = {
    "ints": np.array([1, 2, 3], dtype="int16"),
    "floats": [1.5, np.nan, -0.0],
    "bools": [True, False, True],
    "complex": [1j, 2, 3],
    "objects": pd.Series([1, None, [{2}, (1,)]], dtype=object),
    "lists": pd.Series([[1, 2], [3, 4], [5, 6]], dtype=object),
    "mixed": pd.Series([pd.NA, pd.NaT, decimal.Decimal("1.0")], dtype=object),
    "moments": pd.Series([pd.Timestamp("2024-01-01", tz=BERLIN), datetime.datetime(2024, 1, 1), 2**70], dtype=object),
    "spans": pd.Series([pd.Timedelta("1D"), pd.Timedelta(3, "ns"), None], dtype=object),
    "text objects": pd.Series(["a", None, "ü"], dtype=object),
    "text": pd.Series(["a", None, "ü"], dtype="str"),
    "string": pd.Series(["a", None, "ü"], dtype="string[python]"),
    "arrow string": pd.Series(["a", None, "ü"], dtype="string[pyarrow]"),
    "category": pd.Categorical(["a", None, "b"], categories=["b", "a", "c"], ordered=True),
    "numbers": pd.Categorical([3, 1, 3]),
    "nullable": pd.array([1, None, 3], dtype="Int8"),
    "nullable float": pd.array([1.5, None, 3], dtype="Float32"),
    "nullable bool": pd.array([True, None, False], dtype="boolean"),
    "naive": pd.to_datetime(["2024-01-01", None, "2024-01-03"]),
    "seconds": pd.Series(np.array(["2024", "NaT", "1500"], dtype="M8[s]")),
    "zoned": DAYS,
    "utc": pd.to_datetime(["2024-01-01T12", None, "2024"], format="ISO8601", utc=True),
    "offset": pd.Series(pd.to_datetime(["2024", "2025", "2026"])).dt.tz_localize(
        datetime.timezone(datetime.timedelta(hours=5))
    ),
    "deltas": pd.to_timedelta(["1D", None, "3s"]),
    "periods": pd.period_range("2024-01", periods=3, freq="M"),
    "intervals": pd.interval_range(0, 3, closed="left"),
    "arrow": pd.array([1, None, 3], dtype="int64[pyarrow]"),
}
INDEXES: dict[str, Any] = {
    "range": pd.RangeIndex(3, 9, 2, name="r"),
    "ints": pd.Index([3, 1, 3], dtype="int32"),
    "objects": pd.Index([1, "a", (2, 3)], dtype=object, name=("a", 1)),
    "text": pd.Index(["a", "b", "c"]),
    "days": DAYS,
    "hours": pd.timedelta_range("0h", periods=3, freq="h"),
    "category": pd.CategoricalIndex(["a", "b", "a"]),
    "periods": pd.period_range("2024-01", periods=3, freq="Q"),
    "intervals": pd.interval_range(0, 3),
    "multi": pd.MultiIndex.from_tuples([("a", 1), ("a", 2), ("b", 1)], names=["x", None]),
}


def assert_same(one: Any, other: Any) -> None:
    """Assert equal values, of equal types and dtypes, with names, frequencies, attributes and flags."""
    assert type(one) is type(other)
    if isinstance(one, pd.Index):
        pd.testing.assert_index_equal(one, other, exact=True, check_names=True)
        assert getattr(one, "freq", None) == getattr(other, "freq", None)
        assert one.dtype == other.dtype
    elif isinstance(one, pd.Series):
        pd.testing.assert_series_equal(one, other, check_exact=True, check_index_type="exact", check_flags=True)
        assert_same(one.index, other.index)
        assert one.attrs == other.attrs
        if one.dtype == object:
            assert list(map(type, one)) == list(map(type, other))
    else:
        assert len(one.columns) == len(other.columns)
        assert_same(one.index, other.index)
        assert_same(one.columns, other.columns)
        assert (one.attrs, one.flags) == (other.attrs, other.flags)
        for position in range(len(one.columns)):
            assert_same(one.iloc[:, position], other.iloc[:, position])


def assert_restored(value: Any) -> None:
    """Assert that a value is restored exactly, alone and inside other values, and gives equal bytes again."""
    encoded = encode(value)
    assert_same(decode(encoded), value)
    assert encode(decode(encoded)) == encoded
    encoder = SequenceEncoder()
    encoder.add({"deep": [(value,)], "other": "\ud800"})
    assert_same(decode(encoder.finish())[0]["deep"][0][0], value)


@pytest.mark.parametrize("name", VALUES)
def test_every_dtype_is_restored_exactly(name: str) -> None:
    """A series and a column of each dtype keep the dtype and the missing values."""
    series = pd.Series(VALUES[name], name=name, index=pd.Index([5, 6, 7]))
    series.index = pd.Index([5, 6, 7])
    assert_restored(series)
    assert_restored(pd.DataFrame({name: series, "twice": series}))
    assert_restored(series.iloc[:0])


@pytest.mark.parametrize("name", INDEXES)
def test_every_index_is_restored_exactly(name: str) -> None:
    """Each index is restored exactly alone, as the index of a frame, and as its columns."""
    assert_restored(INDEXES[name])
    assert_restored(pd.DataFrame({"a": [1, 2, 3]}, index=INDEXES[name]))
    frame = pd.DataFrame(np.arange(6.0).reshape(2, 3))
    frame.columns = INDEXES[name]
    assert_restored(frame)


def test_a_frame_of_all_dtypes_is_restored_exactly() -> None:
    """One frame has all columns, two with one name, attributes and flags. Others lack rows, columns or both."""
    frame = pd.concat([pd.Series(value).reset_index(drop=True).rename(name) for name, value in VALUES.items()], axis=1)
    frame.attrs = {"source": ("a", 1)}
    assert_restored(frame)
    assert_restored(pd.concat([frame, frame[["ints"]]], axis=1))
    assert_restored(frame.iloc[:0])
    assert_restored(frame.iloc[:, :0])
    assert_restored(pd.DataFrame())
    assert_restored(frame.set_flags(allows_duplicate_labels=False))
    assert_restored(frame.set_index(["text", "ints"]))


@law
@given(
    frames.data_frames(
        [
            frames.column("a", dtype=float),
            frames.column("b", dtype=int),
            frames.column("c", elements=st.one_of(st.none(), st.text(), st.integers(), st.floats()), dtype=object),
            frames.column("d", dtype="datetime64[ns]"),
        ],
        index=frames.range_indexes(max_size=8),
    )
)
def test_every_frame_is_restored_exactly(frame: pd.DataFrame) -> None:
    """A frame with any columns is restored exactly."""
    assert_restored(frame)


def test_columns_are_not_copied() -> None:
    """A column of numbers is a view of the bytes that were fetched, read-only; a copy may be written."""
    frame = decode(encode(pd.DataFrame({"a": np.arange(10_000.0)})))
    assert not frame["a"].to_numpy().flags.writeable
    changed = frame.copy()
    changed.loc[0, "a"] = 5.0
    assert changed["a"].iloc[0] == 5.0
    assert frame["a"].sum() == 49_995_000.0
    assert frame.groupby(frame.index % 2)["a"].mean().tolist() == [4999.0, 5000.0]


class SubFrame(pd.DataFrame):
    pass


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (SubFrame({"a": [1]}), r"SubFrame \(.*\), which cannot travel"),
        (pd.DataFrame({"a": pd.arrays.SparseArray([0, 0, 1])}), r"no form that travels: use astype\(\)"),
        (pd.DataFrame({"a": pd.Series([1, object()], dtype=object)}), "builtins.object"),
        (pd.Categorical(["a"]), "which cannot travel"),
    ],
    ids=["subclass", "sparse", "object", "category"],
)
def test_an_unencodable_value_is_refused(value: Any, reason: str) -> None:
    """A subclass, a dtype without an encoding and an unencodable object are each refused with their path."""
    with pytest.raises(Unencodable, match=reason) as caught:
        encode({"rows": [value]})
    assert caught.value.path.startswith("value.rows[0]")


def test_pandas_is_imported_only_for_its_values(tmp_path: Path) -> None:
    """Encoding never imports pandas. Decoding a frame does, and names the extra if pandas is not installed."""
    (tmp_path / "frame").write_bytes(encode(pd.DataFrame({"a": [1]})))
    program = (
        "import sys; from pathlib import Path; import storage\n"
        "storage.encode([1, 'a']); assert 'pandas' not in sys.modules\n"
        "if len(sys.argv) > 2: sys.modules['pandas'] = None\n"
        "try: print(storage.decode(Path(sys.argv[1]).read_bytes()).shape)\n"
        "except storage.MissingPackage as error: print(error.extra)\n"
    )
    for more, expected in (([], "(1, 1)"), (["missing"], "pandas")):
        run = subprocess.run(
            [sys.executable, "-c", program, str(tmp_path / "frame"), *more],
            capture_output=True,
            text=True,
            check=True,
            cwd=Path(__file__).parents[2],
        )
        assert run.stdout.strip() == expected
    assert MissingPackage("x", extra="pandas").extra == "pandas"
