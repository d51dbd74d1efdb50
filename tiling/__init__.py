"""Geometry: spans, windows, the chunk grid, the tile lattice, stitching. numpy only."""
