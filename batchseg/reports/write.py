"""Folding the ledger of a run into its reports: metrics.json, the table, STAC items. Needs the output folder only."""

from __future__ import annotations

import json
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from batchseg.ledger.ledger import Ledger
from batchseg.ledger.sessions import count_wall_s
from batchseg.paths import METRICS_KEY, PAGE_KEY, TABLE_KEY, item_key
from batchseg.reports.metrics import metrics
from batchseg.reports.money import paid_usd
from batchseg.resolve.plan_file import read_plan
from batchseg.store import Store

VERSIONED = ("batchseg", "numpy", "openvino", "rasterio", "ray", "torch", "transformers", "zarr")


def write_reports(store: Store) -> dict[str, Any]:
    """The same numbers whenever it is done."""
    from batchseg.reports.page.html import report_html  # noqa: PLC0415 - like the others, needed at the end only
    from batchseg.reports.stac import stac_item  # noqa: PLC0415
    from batchseg.reports.table import write_table  # noqa: PLC0415

    plan, ledger = read_plan(store), Ledger(store)
    records = list(ledger.read_records())
    quarantined = {str(task): story for task, story in ledger.read_quarantine().items()}
    content = metrics(
        plan,
        records,
        list(ledger.read_sheets()),
        list(ledger.read_stints()),
        quarantined=quarantined,
        wall_s=count_wall_s(store),
    )
    content["versions"] = {name: found for name in VERSIONED if (found := _version(name))}
    sheets = list(ledger.read_sheets())
    for scene in plan.scenes:
        made = [sheet for sheet in sheets if sheet.key.scene == scene]
        if made:
            item = stac_item(plan, scene, content, made)
            _put_if_other(store, item_key(scene), json.dumps(item, indent=1).encode())
    store.put(METRICS_KEY, json.dumps(content, indent=1).encode())
    store.put(PAGE_KEY, report_html(plan, store, records, content).encode())
    write_table(plan, store, records, quarantined, TABLE_KEY)
    return content


def _put_if_other(store: Store, key: str, content: bytes) -> None:
    """Catalogs look at dates: what says the same is left alone."""
    try:
        same = store.get(key) == content
    except FileNotFoundError:
        same = False
    if not same:
        store.put(key, content)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def spent_usd(store: Store, *, head_usd_per_hour: float) -> float:
    """What the run has cost so far, to one beat; known without reading what the money was spent on."""
    return paid_usd([], list(Ledger(store).read_stints()), count_wall_s(store), head_usd_per_hour)
