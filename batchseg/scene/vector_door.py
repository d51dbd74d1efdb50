"""The door through which every vector file passes: its driver is allowed, and it leads to no other file or server.

pyogrio cannot limit GDAL's drivers. So a file's first bytes are judged before GDAL sees it, and the driver that GDAL
chose is judged before a feature is read.
"""

from __future__ import annotations

import json
import mmap
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import NamedTemporaryFile

from batchseg.errors import InputError, RecipeError, SceneError
from batchseg.recipe.trust import Trust
from batchseg.scene.gdal_drivers import (
    HEAD_BYTES,
    VECTOR_DRIVERS,
    find_forbidden_vector_driver,
    is_trusted,
    is_vector_driver_allowed,
    looks_like_vectors,
    starts_as_text,
)
from batchseg.scene.gdal_name import PREFIX_DRIVERS, GdalName, has_prefix, parse_gdal_name
from batchseg.scene.heads import check_regular, list_members, read_head
from batchseg.scene.reach import Reach
from batchseg.scene.sqlite_tables import SQLITE_SIGN, find_reaching_table

_HEAD_BYTES = 16 * HEAD_BYTES
"""Drivers look for their signs in the first 1 to 60 kB."""
_ZIP_SIGN = b"PK\x03\x04"
_MAX_MEMBERS, _MAX_MEMBER_BYTES = 1000, 2**28
_CRS_KEY = re.compile(rb"[\"'](?:c|\\u0063)(?:r|\\u0072)(?:s|\\u0073)[\"']\s*:\s*")
_MAX_CRS_BYTES = 65_536
_SIBLING_ENDINGS = (".dbf", ".shx", ".prj", ".cpg", ".sbn", ".qix", ".idm", ".ind", ".gfs", ".xsd", ".shp")
_JOURNALS = ("-wal", "-shm", "-journal")


def check_vector(url: str, path: str, trust: Trust) -> None:
    """Raise RecipeError for a vector file that could lead GDAL to other files or servers.

    Args:
        url: The file, as the author of the recipe named it.
        path: The file that GDAL will open.
        trust: What the author allows.
    """
    name = parse_gdal_name(path)
    if name is None or name.archive == "other" or (has_prefix(path) and name.prefix is None):
        raise RecipeError("this is no vector file", where=url, expected="a path or a URL", got=path)
    driver = None if name.driver is None else _find_ogr_name(name.driver)
    if driver is not None:
        check_vector_driver(url, driver, trust)
        if is_trusted(driver, trust):
            return  # what the author writes and trusts may be a server
    if name.is_remote or not Path(name.file).exists():
        raise RecipeError("no such file", where=url, got=path, todo="name the file, or the whole archive, by its URL")
    try:
        check_regular(url, name.file)
        reach = Reach.of(url, name.file, trust)
        _check_siblings(reach, name.file)
        _check_content(reach, name)
    except SceneError as error:
        raise RecipeError(
            error.what, where=error.where, expected=error.expected, got=error.got, todo=error.todo
        ) from error


def check_vector_driver(url: str, driver: str, trust: Trust) -> None:
    """Raise RecipeError unless a driver may open vector files."""
    if not is_vector_driver_allowed(driver, trust):
        raise RecipeError(
            f"GDAL's driver {driver} is not allowed for vector files",
            where=url,
            expected=f"one of {', '.join(VECTOR_DRIVERS)}",
            got=driver,
            todo=f"if you trust the file, and all that it refers to, add to the recipe: "
            f"`trust: {{drivers: [{driver}]}}`",
        )


def names_driver(path: str) -> bool:
    """Test if a name begins with a driver, as in `CSV:table`."""
    name = parse_gdal_name(path)
    return name is not None and name.driver is not None and _find_ogr_name(name.driver) is not None


def _find_ogr_name(prefix: str) -> str | None:
    """Find a driver's name as GDAL writes it, or one that GDAL would need; prefixes of names are in capitals."""
    import pyogrio  # type: ignore[import-untyped, unused-ignore]

    names = (*pyogrio.list_drivers(), *PREFIX_DRIVERS.values())
    return next((name for name in names if name.casefold() == prefix.casefold()), None)


def _check_siblings(reach: Reach, file: str) -> None:
    """Check the files of the same name, which GDAL opens too; none may be a link that leads out of reach."""
    path = Path(file)
    if path.is_dir():
        members: Iterator[Path] = path.rglob("*")
    else:
        # A folder is not listed: it may be large. Few endings belong to the formats that are allowed.
        endings = (*(e for word in _SIBLING_ENDINGS for e in (word, word.upper())), *_JOURNALS)
        starts = dict.fromkeys((file, re.sub(r"\.[^./]*$", "", file)))
        members = (Path(start + ending) for start in starts for ending in endings)
    for member in members:
        if member.is_symlink() and member != path:
            reach.check(str(member), str(member))


def _check_content(reach: Reach, name: GdalName) -> None:
    if name.archive is None and Path(name.file).is_dir():
        for file in sorted(Path(name.file).rglob("*")):
            if file.is_file():
                _check_bytes(reach, GdalName(file=str(file)), is_named=False)
        return
    is_zip = name.archive is None and (read_head(name, len(_ZIP_SIGN)) or b"") == _ZIP_SIGN
    if is_zip or (name.archive in ("zip", "tar") and not name.member):
        archive = replace(name, archive="zip") if is_zip else name
        members = list_members(archive)
        if not 0 < len(members) <= _MAX_MEMBERS:
            raise _refuse(reach.url, f"an archive of 1 to {_MAX_MEMBERS} members", f"{len(members)} members")
        for member in members:
            _check_bytes(reach, replace(archive, member=member), is_named=False)
    else:
        _check_bytes(reach, name, is_named=True)


def _check_bytes(reach: Reach, name: GdalName, *, is_named: bool) -> None:
    """Check one file, by its first bytes or, where these call for it, by all of them."""
    head = read_head(name, _HEAD_BYTES)
    if head is None:
        if name.member and not is_named:
            return  # a folder in an archive
        raise _refuse(reach.url, "a file, or a member of a zip or tar archive", name.member or name.file)
    forbidden = find_forbidden_vector_driver(head, reach.trust)
    if forbidden is not None:
        check_vector_driver(reach.url, forbidden, reach.trust)
    if starts_as_text(head):
        reach.check_addresses(head)
    if is_named and head and not reach.trust.drivers and not looks_like_vectors(head):
        raise _refuse_format(reach, name)
    if head.startswith(SQLITE_SIGN):
        with _unpack(reach.url, name) as file:
            _check_tables(reach, file)
    elif b"{" in head and b"\0" not in head[:64] and not head.startswith(b"<"):
        with _unpack(reach.url, name) as file:
            _check_crs(reach.url, file)


def _refuse_format(reach: Reach, name: GdalName) -> InputError:
    import pyogrio  # type: ignore[import-untyped, unused-ignore]

    try:
        driver = str(pyogrio.detect_write_driver(name.member or name.file))
    except ValueError:
        driver = ""
    if driver and driver not in VECTOR_DRIVERS:
        check_vector_driver(reach.url, driver, reach.trust)
    return _refuse(reach.url, f"one of {', '.join(VECTOR_DRIVERS)}", None)


def _refuse(url: str, expected: str, got: str | None) -> RecipeError:
    return RecipeError(
        "cannot be read as a vector file", where=url, expected=expected, got=got, todo="give a file of polygons"
    )


@contextmanager
def _unpack(url: str, name: GdalName) -> Iterator[str]:
    """Unpack a member of an archive, so that all of it can be read."""
    with ExitStack() as stack:
        if name.archive is None:
            yield name.file
            return
        content = read_head(name, _MAX_MEMBER_BYTES + 1)
        if content is None or len(content) > _MAX_MEMBER_BYTES:
            raise _refuse(url, f"members of {_MAX_MEMBER_BYTES // 2**20} MiB or less", name.member)
        file = stack.enter_context(NamedTemporaryFile())
        file.write(content)
        file.flush()
        yield file.name


def _check_tables(reach: Reach, file: str) -> None:
    table = None if is_trusted("GPKG", reach.trust) else find_reaching_table(file)
    if table is not None:
        raise RecipeError(
            "the database has a table or a view that may read any other file",
            where=reach.url,
            expected="plain tables and views",
            got=table,
            todo="copy the layer to a new GeoPackage with ogr2ogr",
        )


def _check_crs(url: str, file: str) -> None:
    """Check the coordinate system of a GeoJSON file. GDAL would ask a server for one that is named by a link."""
    with Path(file).open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as content:
        for match in _CRS_KEY.finditer(content):
            text = content[match.end() : match.end() + _MAX_CRS_BYTES]
            if _is_crs_link(text):
                raise RecipeError(
                    "the coordinate system is a link, which GDAL would follow",
                    where=url,
                    expected='a name, like {"type": "name", "properties": {"name": "EPSG:32633"}}',
                    got=text[:200].decode("utf-8", "replace"),
                    todo="name the system in the file, or convert the file to a GeoPackage",
                )


def _is_crs_link(text: bytes) -> bool:
    """Test if a value may be a link. What is no plain object counts as one: GDAL's reader of JSON is lenient."""
    if text[:1] not in (b"{", b"/", b"'"):
        return False  # text, a number or null
    try:
        crs, _ = json.JSONDecoder().raw_decode(text.decode("utf-8", "replace"))
    except ValueError:
        return True
    kind = crs.get("type", "") if isinstance(crs, dict) else ""
    return str(kind).casefold() not in ("name", "epsg", "ogc")
