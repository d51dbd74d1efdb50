"""The shipped bundles: their digests stand in the records of earlier runs, so no change of the code may change them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from batchseg.model.bundle import open_bundle, read_weights, write_bundle, zoo_names

DIGESTS = {
    "aerial-bulk": ("cdcf2f79affabfb0a67eeecca5db7dbc", "daf8ab6b5bc72cc0ae7d4f63bfcd522b"),
    "aerial-bulk-int8": ("666d76899485dfedc6fa684849d54be6", "489b6a5810036910415d84c25f62fd6c"),
    "aerial-heavy": ("471cf73ff76858d7742027f38cfb88e2", "870b6f17f133ef451bcb561211489810"),
    "synthetic-bulk": ("a9940e78ce292fcf25eb098537f71577", "f72b8c00c442c8aed94839c4029c7e3f"),
    "synthetic-heavy": ("ee473bd2c426723930a1f6a557fee427", "ddd02a719982a0f6ffc286ae9d8a650c"),
}
"""Digest and graph digest. They change only when a bundle is trained, quantised or tuned again."""


def test_the_digests_of_all_shipped_bundles_are_known() -> None:
    bundles = {name: open_bundle(f"zoo:{name}") for name in zoo_names()}
    assert {name: (bundle.digest, bundle.graph_digest) for name, bundle in bundles.items()} == DIGESTS


@pytest.mark.parametrize("name", DIGESTS)
def test_a_shipped_bundle_is_written_as_it_was_read(name: str, tmp_path: Path) -> None:
    bundle = open_bundle(f"zoo:{name}")
    shipped = json.loads((bundle.folder / "item.json").read_text())
    write_bundle(tmp_path, bundle.contract, read_weights(bundle), created_at=shipped["properties"]["datetime"])
    assert json.loads((tmp_path / "item.json").read_text()) == shipped
