"""Databases of SQLite, such as GeoPackages, whose tables would make GDAL read other files or ask servers."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from pathlib import Path

SQLITE_SIGN = b"SQLite format 3\0"
_HARMLESS_MODULES = frozenset({"rtree", "fts3", "fts4", "fts5", "rtree_i32", "geopoly"})
_VIRTUAL = re.compile(r"create\s+virtual\s+table.*?\busing\s+[\"'`\[]?(\w+)", re.IGNORECASE | re.DOTALL)
_REACHING = re.compile(
    r"\bogr_(?:geocode|datasource|layer_load)\w*|\bgdal_get_\w+|\bload_extension\b|\bvirtual(?:ogr|shape|text|xl|dbf)\w*"
    r"|\battach\b|\b(?:read|write)file\b|\b(?:import|export)(?:shp|dbf|xls|geojson|wfs|dxf|kml)\w*|\bblobfromfile\b"
    r"|\b(?:xb|img)_\w+fromfile\b|\bedit\b|\bfts3_tokenizer\b",
    re.IGNORECASE,
)
"""Functions of GDAL, SpatiaLite and SQLite's shell that open files or ask servers."""


def find_reaching_table(file: str) -> str | None:
    """Find a table, a view or a trigger that could read other files; None where there is none.

    A virtual table is a program's view of anything; a view may call any function of the program that reads it.
    """
    try:
        # Changes that wait in a journal count as well, as they do for GDAL.
        waits = any(Path(f"{file}{ending}").exists() for ending in ("-wal", "-journal"))
        options = "mode=ro" if waits else "mode=ro&immutable=1"
        with closing(sqlite3.connect(f"file:{_quote(file)}?{options}", uri=True)) as database:
            rows = database.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall()
    except (sqlite3.Error, UnicodeError) as error:
        return f"a database that cannot be read ({error})"
    return next((" ".join(str(sql).split()) for (sql,) in rows if _reaches(str(sql))), None)


def _reaches(sql: str) -> bool:
    made = _VIRTUAL.search(sql)
    if made is not None:
        return made[1].casefold() not in _HARMLESS_MODULES
    return re.search(r"\bvirtual\b\s+table", sql, re.IGNORECASE) is not None or _REACHING.search(sql) is not None


def _quote(path: str) -> str:
    return "".join(f"%{ord(sign):02x}" if sign in "%?#" else sign for sign in str(Path(path).absolute()))
