"""STAC items against the schemas of STAC itself and of every extension that they name, without a network.

`tests/schemas/` holds the extensions' schemas as published (Apache-2.0), since pystac ships none of them. What they
refer to comes from where it is installed already: GeoJSON from pystac, PROJJSON from PROJ.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyproj.datadir
import pystac.validation
from jsonschema.validators import validator_for
from pystac.stac_object import STACObjectType
from pystac.validation.stac_validator import JsonSchemaSTACValidator
from referencing import Registry, Resource

SCHEMAS = [json.loads(path.read_text("utf-8")) for path in sorted((Path(__file__).parent / "schemas").glob("*.json"))]
BY_URL = {schema["$id"].rstrip("#"): schema for schema in SCHEMAS}
CLASSIFICATION = "https://stac-extensions.github.io/classification/v2.0.0/schema.json"
_OTHERS = (
    Path(pystac.validation.__file__).parent / "jsonschemas" / "geojson" / "Geometry.json",
    Path(pyproj.datadir.get_data_dir()) / "projjson.schema.json",
)
REGISTRY: Registry[Any] = Registry().with_resources(
    (schema["$id"].rstrip("#"), Resource.from_contents(schema))
    for schema in [*SCHEMAS, *(json.loads(path.read_text("utf-8")) for path in _OTHERS)]
)


def problems_of(item: dict[str, Any]) -> list[str]:
    """What is wrong with an item; raises where STAC's own schema is broken, or an extension is not known here."""
    JsonSchemaSTACValidator().validate_core(item, STACObjectType.ITEM, "1.1.0")
    found = [problem for url in item["stac_extensions"] for problem in _problems(url, item)]
    # The schema of the classes dates from before STAC 1.1, and does not look into bands.
    for asset in item["assets"].values():
        for band in asset.get("bands", []):
            if "classification:classes" in band and CLASSIFICATION in item["stac_extensions"]:
                found += _problems(f"{CLASSIFICATION}#/definitions/fields", _classes_of(band))
    return found


def _classes_of(band: dict[str, Any]) -> dict[str, Any]:
    return {"classification:classes": band["classification:classes"]}


def _problems(url: str, content: dict[str, Any]) -> list[str]:
    schema = {"$ref": url}
    validator = validator_for(BY_URL[url.partition("#")[0]])
    return [
        f"{url}: {error.json_path}: {error.message[:300]}"
        for error in validator(schema, registry=REGISTRY).iter_errors(content)
    ]
