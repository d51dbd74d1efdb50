"""The columns of ledger.parquet are laid out by us, and must be what pyarrow would have made of the same values."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchseg.reports import ledger_table

NUMBERS = st.lists(st.none() | st.integers(-(2**63), 2**63 - 1))
FRACTIONS = st.lists(st.none() | st.floats(allow_nan=False))
TEXTS = st.lists(st.none() | st.text())
BYTES = st.lists(st.none() | st.binary())


@pytest.mark.parametrize(
    ("kind", "lists"),
    [(pa.int64(), NUMBERS), (pa.float64(), FRACTIONS), (pa.string(), TEXTS), (pa.binary(), BYTES)],
    ids=str,
)
def test_a_column_is_what_pyarrow_makes_of_it(kind: Any, lists: st.SearchStrategy[list[Any]]) -> None:
    @settings(deadline=None)  # pandas is imported on the way
    @given(lists)
    def check(values: list[Any]) -> None:
        column = ledger_table._column(values, kind)
        column.validate(full=True)
        assert column.equals(pa.array(values, kind))

    check()


def test_rows_past_a_batch_are_in_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_table, "BATCH_ROWS", 2)
    schema = pa.schema([("row", pa.int64()), ("story", pa.string())])
    rows = [{"row": 1}, {"row": 2, "story": "tale"}, {"row": 3}]
    assert pa.Table.from_batches(ledger_table._lay_out(rows, schema), schema).to_pylist() == [
        {"row": 1, "story": None},
        {"row": 2, "story": "tale"},
        {"row": 3, "story": None},
    ]


def test_a_table_is_made_without_pandas() -> None:
    """Two tenths of a second and 50 MB; pyarrow imports it where it is given a list."""
    work = """
import sys
import pyarrow as pa
from pyarrow import parquet
from batchseg.reports import ledger_table
schema = pa.schema([("row", pa.int64()), ("story", pa.string())])
batches = ledger_table._lay_out([{"row": 1}, {"story": "tale"}], schema)
parquet.write_table(pa.Table.from_batches(batches, schema), pa.BufferOutputStream(), compression="zstd")
sys.exit("pandas" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", work], check=False).returncode == 0
