"""The COG writer, read back with GDAL: pixels, overviews, place, and the check that a file is whole."""

from __future__ import annotations

import hashlib
import tracemalloc
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from rio_cogeo.cogeo import cog_validate

from batchseg.classes import ClassInfo
from batchseg.errors import DamagedError, WriteError
from batchseg.layers.layer import Layer
from batchseg.output import tiff
from batchseg.output.block import BlockChecksums
from batchseg.output.cog import CogOptions, verify_cog, write_cog
from batchseg.scene.georef import Georef
from tests.batchseg.output.test_overview import average, halve_by_cells, vote

CORNER = (0.5, 0.0, 500_000.0, 0.0, -0.5, 4_000_000.0)
SMALL = CogOptions(block_px=16)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("cog")


def place_pixels(pixels):
    height_px, width_px = pixels.shape
    return Georef(width_px=width_px, height_px=height_px, crs_wkt=None, transform=CORNER)


def make_layer(pixels, kind="classes", **kw):
    nodata = kw.pop("nodata", int(np.iinfo(pixels.dtype).max))
    return Layer(name="labels", dtype=str(pixels.dtype), nodata=nodata, kind=kind, **kw)


def write_raster(folder, pixels, layer, *, georef=None, stripe_px=32, options=SMALL):
    path = folder / "out.tif"
    made = write_cog(
        path,
        georef or place_pixels(pixels),
        layer,
        lambda start, stop: pixels[start:stop],
        scratch=folder,
        stripe_px=stripe_px,
        options=options,
    )
    return path, made


def compute_pyramid(pixels, layer):
    rule = vote if layer.kind == "classes" else average
    levels = [pixels]
    while max(levels[-1].shape) > 16:
        high, wide = levels[-1].shape
        even = np.pad(levels[-1], ((0, high % 2), (0, wide % 2)), constant_values=layer.nodata)
        levels.append(halve_by_cells(even, layer.nodata, rule))
    return levels


def assert_reads_back(path, pixels, layer):
    levels = compute_pyramid(pixels, layer)
    with rasterio.open(path) as whole:
        assert whole.nodata == layer.nodata
        assert np.array_equal(whole.read(1), pixels)
        assert len(whole.overviews(1)) == len(levels) - 1
    for number, expected in enumerate(levels[1:]):
        with rasterio.open(path, overview_level=number) as overview:
            assert np.array_equal(overview.read(1), expected)
            assert overview.nodata == layer.nodata


@st.composite
def rasters(draw):
    dtype = draw(st.sampled_from([np.uint8, np.uint16]))
    shape = (draw(st.integers(1, 70)), draw(st.integers(1, 70)))
    top = int(np.iinfo(dtype).max)
    pixels = draw(hnp.arrays(dtype, shape, elements=st.sampled_from([0, 1, 2, 3, top - 1, top]), fill=st.just(1)))
    return pixels, make_layer(pixels, draw(st.sampled_from(["classes", "measure"])))


@settings(max_examples=60, deadline=None)
@given(rasters(), st.sampled_from([16, 32, 64]), st.booleans(), st.integers(1, 3))
def test_pixels_and_overviews_read_back(folder, raster, stripe_px, force_big, threads):
    pixels, layer = raster
    options = CogOptions(block_px=16, threads=threads, force_big=force_big)
    path, made = write_raster(folder, pixels, layer, stripe_px=stripe_px, options=options)
    assert_reads_back(path, pixels, layer)
    assert path.read_bytes()[:4] == (b"II+\0" if force_big else b"II*\0")
    assert made.size_bytes == path.stat().st_size
    assert made.digest == hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()
    assert made.counts == tuple(np.bincount(pixels.ravel(), minlength=layer.highest + 1))


def make_landscape(height_px, width_px, num_codes, dtype=np.uint8):
    """Patches of codes with some nodata, big enough for several blocks."""
    rng = np.random.default_rng(7)
    coarse = rng.integers(0, num_codes, (height_px // 8 + 1, width_px // 8 + 1)).astype(dtype)
    pixels = coarse.repeat(8, axis=0).repeat(8, axis=1)[:height_px, :width_px].copy()
    pixels[: height_px // 4, : width_px // 3] = np.iinfo(dtype).max
    return pixels


@pytest.mark.parametrize("kind", ["classes", "measure"])
def test_bytes_do_not_depend_on_stripes_or_threads(folder, kind):
    pixels = make_landscape(150, 131, 200)
    layer = make_layer(pixels, kind)
    digests = {
        write_raster(folder, pixels, layer, stripe_px=stripe_px, options=CogOptions(block_px=16, threads=threads))[
            1
        ].digest
        for stripe_px, threads in [(16, 1), (48, 2), (160, 3), (1600, 2)]
    }
    assert len(digests) == 1


@pytest.mark.parametrize(("height_px", "width_px"), [(700, 1300), (513, 40), (512, 512)])
@pytest.mark.parametrize("kind", ["classes", "measure"])
def test_a_file_is_a_strictly_valid_cog(folder, height_px, width_px, kind):
    pixels = make_landscape(height_px, width_px, 7)
    path, _ = write_raster(folder, pixels, make_layer(pixels, kind), stripe_px=512, options=CogOptions())
    assert cog_validate(path, strict=True) == (True, [], [])
    with rasterio.open(path) as file:
        assert file.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"


def test_blocks_lie_coarsest_level_first_and_all_are_there(folder):
    pixels = np.full((100, 100), 255, np.uint8)
    path, _ = write_raster(folder, pixels, make_layer(pixels))
    with path.open("rb") as file:
        directories = tiff.read_directories(file, "")
    starts = [directory[tiff.TILE_OFFSETS].numbers.astype(int) for directory in directories]
    in_file = np.concatenate(starts[::-1])
    assert [len(level) for level in starts] == [49, 16, 4, 1]
    assert in_file[0] > 0
    assert (np.diff(in_file) > 0).all()


def test_rows_are_asked_for_once_in_order(folder):
    pixels = make_landscape(150, 40, 5)
    asked = []

    def rows(start, stop):
        asked.append((start, stop))
        return pixels[start:stop]

    write_cog(
        folder / "out.tif", place_pixels(pixels), make_layer(pixels), rows, scratch=folder, stripe_px=64, options=SMALL
    )
    assert asked == [(0, 64), (64, 128), (128, 150)]


def test_memory_does_not_grow_with_the_raster(folder):
    width_px, height_px = 256, 80_000
    georef = Georef(width_px=width_px, height_px=height_px, crs_wkt=None, transform=CORNER)
    layer = Layer(name="labels", dtype="uint8", nodata=255, kind="classes")

    def rows(start, stop):
        return np.arange(start, stop, dtype=np.uint32)[:, None].astype(np.uint8).repeat(width_px, axis=1)

    tracemalloc.start()
    write_cog(folder / "out.tif", georef, layer, rows, scratch=folder, stripe_px=256, options=CogOptions(block_px=128))
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes < width_px * height_px / 4


@pytest.mark.parametrize("kind", ["measure", "classes"])
def test_statistics_are_those_of_the_valid_pixels(folder, kind):
    pixels = make_landscape(100, 90, 250)
    path, _ = write_raster(folder, pixels, make_layer(pixels, kind))
    valid = pixels[pixels != 255].astype(float)
    with rasterio.open(path) as file:
        tags = file.tags(1)
    assert float(tags["STATISTICS_MINIMUM"]) == valid.min()
    assert float(tags["STATISTICS_MAXIMUM"]) == valid.max()
    assert float(tags["STATISTICS_MEAN"]) == pytest.approx(valid.mean())
    assert float(tags["STATISTICS_STDDEV"]) == pytest.approx(valid.std())
    assert float(tags["STATISTICS_VALID_PERCENT"]) == pytest.approx(100 * valid.size / pixels.size, rel=1e-3)


def test_classes_have_palette_description_and_tags(folder):
    pixels = make_landscape(40, 40, 3)
    palette = {0: (10, 20, 30), 1: (250, 0, 1), 2: (0, 255, 0)}
    classes = tuple(ClassInfo(id=code, name=str(code), rgb=rgb) for code, rgb in palette.items())
    layer = make_layer(pixels, classes=classes, tags={"SOFTWARE": "batch <&> seg"})
    path, _ = write_raster(folder, pixels, layer)
    with rasterio.open(path) as file:
        assert {code: file.colormap(1)[code] for code in palette} == {
            code: (*rgb, 255) for code, rgb in palette.items()
        }
        assert file.colormap(1)[255][3] == 0
        assert file.descriptions == ("labels",)
        assert file.tags()["SOFTWARE"] == "batch <&> seg"
        assert {name.partition("_")[0] for name in file.tags(1)} == {"STATISTICS"}
    with rasterio.open(path, overview_level=0) as overview:
        assert overview.colormap(1)[1] == (250, 0, 1, 255)


def test_rows_of_another_form_leave_no_file(folder, tmp_path):
    pixels = make_landscape(40, 40, 3)
    for rows in (pixels[:, :39], pixels.astype(np.uint16), pixels[:39]):
        with pytest.raises(WriteError, match="must have the shape and type of their layer"):
            write_cog(
                tmp_path / "out.tif", place_pixels(pixels), make_layer(pixels), lambda *_, r=rows: r, scratch=folder
            )
    assert list(tmp_path.iterdir()) == []


def test_a_failing_source_leaves_the_old_file(tmp_path):
    pixels = make_landscape(100, 40, 3)
    path, made = write_raster(tmp_path, pixels, make_layer(pixels))

    def rows(start, stop):
        if start:
            raise DamagedError("gone")
        return pixels[start:stop]

    with pytest.raises(DamagedError, match="gone"):
        write_cog(path, place_pixels(pixels), make_layer(pixels), rows, scratch=tmp_path, stripe_px=32, options=SMALL)
    assert hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest() == made.digest
    assert list(tmp_path.iterdir()) == [path]


@pytest.fixture(scope="module")
def whole(folder):
    """The bytes of a good file and the checksums of its blocks, taken with zlib from the file itself."""
    pixels = make_landscape(90, 100, 250)
    path, _ = write_raster(folder, pixels, make_layer(pixels, "measure"))
    content = path.read_bytes()
    with path.open("rb") as file:
        directories = tiff.read_directories(file, "")
    checksums = []
    for directory in directories:
        starts, sizes = (directory[code].numbers.tolist() for code in (tiff.TILE_OFFSETS, tiff.TILE_BYTE_COUNTS))
        streams = [content[start : start + size] for start, size in zip(starts, sizes, strict=True)]
        checksums.append([BlockChecksums(len(s), zlib.crc32(s), zlib.adler32(zlib.decompress(s))) for s in streams])
    first_block = int(directories[-1][tiff.TILE_OFFSETS].numbers[0]) - 4
    return content, checksums, first_block


def verify_content(folder, content, checksums):
    path = folder / "damaged.tif"
    path.write_bytes(content)
    with ThreadPoolExecutor(1) as pool:
        verify_cog(path, checksums, pool)


def test_a_good_file_is_proved(folder, whole):
    content, checksums, _ = whole
    verify_content(folder, content, checksums)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_changed_byte_of_any_block_is_found(folder, whole, data):
    content, checksums, first_block = whole
    place = data.draw(st.integers(first_block, len(content) - 1))
    changed = bytearray(content)
    changed[place] ^= data.draw(st.integers(1, 255))
    with pytest.raises(DamagedError, match="must hold the pixels that were compressed"):
        verify_content(folder, bytes(changed), checksums)


def test_a_cut_file_is_found(folder, whole):
    content, checksums, first_block = whole
    for kept in (len(content) - 1, first_block, 100, 12, 3):
        with pytest.raises(DamagedError):
            verify_content(folder, content[:kept], checksums)


def test_pixels_other_than_those_packed_are_found(folder, whole):
    content, checksums, _ = whole
    proof = checksums[0][0]
    other = [
        [BlockChecksums(proof.size_bytes, proof.stream_crc32, proof.pixels_adler32 ^ 1), *checksums[0][1:]],
        *checksums[1:],
    ]
    with pytest.raises(DamagedError, match="other pixels"):
        verify_content(folder, content, other)


def test_missing_levels_are_found(folder, whole):
    content, checksums, _ = whole
    with pytest.raises(DamagedError, match="must have all its levels"):
        verify_content(folder, content, [*checksums, checksums[-1]])
