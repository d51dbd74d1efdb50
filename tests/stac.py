"""STAC items against the schemas of STAC itself and of every extension that they name, without a network.

`tests/schemas/` holds the extensions' schemas as published (Apache-2.0), since pystac ships none of them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from jsonschema.validators import validator_for
from pystac.stac_object import STACObjectType
from pystac.validation.stac_validator import JsonSchemaSTACValidator
from referencing import Registry, Resource

SCHEMAS = [json.loads(path.read_text("utf-8")) for path in sorted((Path(__file__).parent / "schemas").glob("*.json"))]
BY_URL = {schema["$id"].rstrip("#"): schema for schema in SCHEMAS}
REGISTRY: Registry[Any] = Registry().with_resources(
    (url, Resource.from_contents(schema)) for url, schema in BY_URL.items()
)


def problems_of(item: dict[str, Any]) -> list[str]:
    """What is wrong with an item; raises where STAC's own schema is broken, or an extension is not known here."""
    JsonSchemaSTACValidator().validate_core(item, STACObjectType.ITEM, "1.1.0")
    return [
        f"{url}: {error.json_path}: {error.message[:300]}"
        for url in item["stac_extensions"]
        for error in validator_for(BY_URL[url])(BY_URL[url], registry=REGISTRY).iter_errors(item)
    ]
