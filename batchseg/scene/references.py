"""References inside a VRT: every other file that it makes GDAL open, and where the pixels of that file lie.

GDAL's own XML reader is lenient: it takes attributes for elements, ignores the case of names, and reads on where XML is
broken. This reader is strict and refuses what the two could understand differently.
"""

from __future__ import annotations

import io
import math
import re
import xml.parsers.expat
from collections.abc import Iterator
from dataclasses import dataclass, field

from batchseg.errors import SceneError
from tiling.span import Window

MAX_VRT_BYTES = 16 * 2**20
"""A mosaic of some thirty thousand files."""

_TAG = re.compile(r"filename|^source(?:dataset|vrt|url)$|^(?:srcdatasource|cutlineds|dataset|indexdataset)$")
"""Elements and attributes that hold the name of a file."""
_KEY = re.compile(
    r"filename|^filelist$|overview_file|(?:^|_)(?:dem|dataset|datasource|path|root_path|grids?|cutline_ds)(?:_\d+)?$"
    r"|^(?:src_ds|rpc_dem|cutlineds|root_path)$"
)
"""Keys of options and arguments that hold the name of a file."""
_KEYED = frozenset({"mdi", "ooi", "option", "argument"})
_METADATA_WITH_FILES = frozenset({"overviews", "geolocation"})
"""Domains of metadata in which GDAL looks for files. In others, names of files are remarks."""
_NO_FILE = frozenset({"vrtdataset", "relativetovrt", "shared"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    name: str
    is_relative: bool | None
    """True if the name is relative to the VRT's folder, not to the current one; None: GDAL decides by an option."""
    is_raw: bool = False
    """True if the file is read as plain bytes, not opened as a raster."""
    window: Window | None = None
    """Part of the VRT that shows pixels of the file; None: not known."""
    is_copied: bool = False
    """True if the VRT takes pixels one by one, so that overviews of the file never matter."""


@dataclass(slots=True)
class _Node:
    tag: str
    attributes: dict[str, str]
    parent: _Node | None
    text: str = ""
    children: list[_Node] = field(default_factory=list)
    is_mixed: bool = False
    """True if comments or instructions stand between parts of the text."""


def find_references(content: bytes, where: str) -> list[Reference]:
    """List the references of a VRT.

    Args:
        content: The whole VRT.
        where: Its name, for messages.

    Raises:
        SceneError: The VRT is no plain XML, or holds references that GDAL might read in another way.
    """
    root = _parse(content, where)
    if root.tag != "vrtdataset":
        raise _refuse(where, f"<{root.tag}> as the outermost element")
    is_plain = not root.attributes.get("subclass")
    references: list[Reference] = []
    stack = [root]
    while stack:
        node = stack.pop()
        stack += reversed(node.children)
        references += _find_in_node(node, where, is_plain=is_plain)
    return references


def _find_in_node(node: _Node, where: str, *, is_plain: bool) -> Iterator[Reference]:
    language = node.text if node.tag == "pixelfunctionlanguage" else node.attributes.get("pixelfunctionlanguage", "")
    if language.strip().casefold() not in ("", "c") or node.tag == "pixelfunctioncode":
        raise _refuse(where, f"a function of pixels in {language.strip() or 'code'}, which GDAL would run")
    for name, value in node.attributes.items():
        if _TAG.search(name) and name not in _NO_FILE and value:
            yield Reference(name=value, is_relative=None)
    if node.tag in _KEYED:
        keys = {value.casefold() for name, value in node.attributes.items() if name in ("key", "name")}
        if any(map(_KEY.search, keys)) and _is_read(node) and _take_text(node, where):
            if "root_path" in keys:
                raise _refuse(where, "the option ROOT_PATH")
            yield Reference(name=node.text.replace(":::BASE:::", ""), is_relative=None)
        return
    if not _TAG.search(node.tag) or node.tag in _NO_FILE or not _take_text(node, where):
        return
    flag = node.attributes.get("relativetovrt", "0")
    if flag not in ("0", "1"):
        raise _refuse(where, f'relativeToVRT="{flag}"')
    of_band = node.parent is not None and node.parent.tag == "vrtrasterband"
    yield Reference(
        name=node.text,
        is_relative=flag == "1",
        is_raw=of_band,
        window=_read_window(node.parent) if is_plain else None,
        is_copied=is_plain and _copies_pixels(node.parent),
    )


def _is_read(node: _Node) -> bool:
    """Test if GDAL acts on this key: options always, metadata in few domains and in transformers."""
    above, domains = node.parent, []
    while above is not None:
        if "transformer" in above.tag:
            return True
        if above.tag == "metadata":
            domains.append(above.attributes.get("domain", "").casefold())
        above = above.parent
    return not domains or not _METADATA_WITH_FILES.isdisjoint(domains)


def _take_text(node: _Node, where: str) -> str:
    """The name in a node, which is to be nothing but text."""
    if not node.text.strip() and not node.children:
        return ""
    if node.children or node.is_mixed or node.text != node.text.strip():
        raise _refuse(where, f"<{node.tag}> with more than a name in it")
    return node.text


def _read_window(source: _Node | None) -> Window | None:
    """The pixels of the VRT that a source fills, and two around them for resampling."""
    places = [] if source is None else [child for child in source.children if child.tag == "dstrect"]
    if len(places) != 1:
        return None
    try:
        left, top, wide, high = (float(places[0].attributes[key]) for key in ("xoff", "yoff", "xsize", "ysize"))
        sides = [math.floor(top) - 2, math.ceil(top + high) + 2, math.floor(left) - 2, math.ceil(left + wide) + 2]
    except (KeyError, ValueError, OverflowError):
        return None
    return Window.of(*(max(0, side) for side in sides)) if wide >= 0 and high >= 0 else None


def _copies_pixels(source: _Node | None) -> bool:
    """Test if a source fills as many pixels as it reads."""
    if source is None or source.tag not in ("simplesource", "complexsource"):
        return False
    sizes = [
        {name: child.attributes.get(name) for name in ("xsize", "ysize")}
        for child in source.children
        if child.tag in ("srcrect", "dstrect")
    ]
    return not sizes or (len(sizes) == 2 and sizes[0] == sizes[1])


class _Reader:
    """Makes nodes of what the parser meets."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.root: _Node | None = None
        self.open: _Node | None = None

    def start(self, tag: str, attributes: list[str]) -> None:
        names = [_fold(name) for name in attributes[::2]]
        if len(set(names)) < len(names):
            raise _refuse(self.where, f"an attribute of <{tag}> twice")
        node = _Node(_fold(tag), dict(zip(names, attributes[1::2], strict=True)), self.open)
        if self.open is None:
            self.root = node
        else:
            self.open.children.append(node)
        self.open = node

    def end(self, _tag: str) -> None:
        self.open = None if self.open is None else self.open.parent

    def add_text(self, text: str) -> None:
        if self.open is not None:
            self.open.text += text

    def mark(self, *_: object) -> None:
        if self.open is not None:
            self.open.is_mixed = True

    def refuse_doctype(self, *_: object) -> None:
        raise _refuse(self.where, "a document type, which may define entities")


def _fold(name: str) -> str:
    return name.rpartition(":")[2].casefold()


def _parse(content: bytes, where: str) -> _Node:
    if len(content) > MAX_VRT_BYTES:
        raise SceneError(
            "the VRT is too large", where=where, expected=f"{MAX_VRT_BYTES // 2**20} MiB or less", todo="split it"
        )
    declared = re.match(rb"\s*<\?xml[^>]*encoding\s*=\s*[\"']([^\"']*)", content.removeprefix(b"\xef\xbb\xbf"))
    if b"\0" in content or (declared is not None and declared[1].lower() not in (b"utf-8", b"utf8", b"us-ascii")):
        raise _refuse(where, "another encoding than UTF-8")
    reader, parser = _Reader(where), xml.parsers.expat.ParserCreate("utf-8")
    parser.ordered_attributes = True
    parser.buffer_text = True
    parser.StartElementHandler, parser.EndElementHandler = reader.start, reader.end
    parser.CharacterDataHandler = reader.add_text
    parser.CommentHandler = parser.ProcessingInstructionHandler = parser.StartCdataSectionHandler = reader.mark
    parser.StartDoctypeDeclHandler = reader.refuse_doctype
    try:
        parser.ParseFile(io.BytesIO(content.strip()))
    except xml.parsers.expat.ExpatError as error:
        raise _refuse(where, str(error)) from error
    if reader.root is None:
        raise _refuse(where, "nothing")
    return reader.root


def _refuse(where: str, got: str) -> SceneError:
    return SceneError(
        "the VRT cannot be checked for references to other files",
        where=where,
        expected="plain XML in UTF-8, as GDAL writes it",
        got=got,
        todo="write it anew with gdalbuildvrt or gdal_translate",
    )
