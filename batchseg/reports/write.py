"""Writing the reports of a run: metrics.json, the page, the table and the STAC items. Needs the output folder only."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from batchseg.egress import encode_json, redact_errors
from batchseg.errors import DamagedError
from batchseg.ledger.ledger import Ledger
from batchseg.ledger.sessions import join_losses, read_sessions
from batchseg.paths import METRICS_KEY, PAGE_KEY, TABLE_KEY, item_key
from batchseg.reports.fold import fold_metrics
from batchseg.reports.metrics import Metrics
from batchseg.reports.money import price_head, sum_paid_usd
from batchseg.resolve.output_folder import open_output
from batchseg.resolve.plan_file import read_plan
from batchseg.schema import plain
from batchseg.store import Store
from batchseg.tasks.table import read_quarantine

VERSIONED = ("batchseg", "numpy", "openvino", "rasterio", "ray", "torch", "transformers", "zarr")
"""Packages whose versions a report names."""


@redact_errors
def report(output: str | Path) -> Metrics:
    """Make the reports of a run again, from its ledger alone. No model runs.

        from batchseg import report

        print(report("out/demo").cost_usd)

    Args:
        output: The output folder of the run, or its URL.

    Returns:
        The metrics of the run. They are also written to metrics.json, beside report.html, ledger.parquet and a STAC
        item for each scene.

    Raises:
        InputError: The folder is not the output of a run.
        DamagedError: A file of the run is damaged.
    """
    return write_reports(open_output(output))


def write_reports(store: Store) -> Metrics:
    """Write all reports of a run; the same ledger always gives the same numbers."""
    # These need GDAL, pyproj and pyarrow, and only the end of a run needs them.
    from batchseg.reports.ledger_table import write_table
    from batchseg.reports.page.html import make_report_html
    from batchseg.reports.stac import make_stac_item

    plan, ledger = read_plan(store), Ledger(store)
    records, sheets, quarantined = list(ledger.read_records()), list(ledger.read_sheets()), read_quarantine(store)
    metrics = fold_metrics(
        plan,
        records,
        sheets,
        list(ledger.read_stints()),
        sessions=read_sessions(store),
        quarantined=dict([*ledger.read_given_up_scenes().items(), *quarantined.items()]),
        versions={package: text for package in VERSIONED if (text := _find_version(package))},
    )
    for scene in plan.scenes:
        of_scene = [sheet for sheet in sheets if sheet.key.scene == scene]
        if of_scene:
            item = make_stac_item(plan, scene, metrics, of_scene)
            _put_if_changed(store, item_key(scene), encode_json(item, indent=1))
    store.put(METRICS_KEY, encode_json(plain(metrics), indent=1))
    store.put(PAGE_KEY, make_report_html(plan, store, records, metrics))
    write_table(plan, store, records, quarantined, TABLE_KEY)
    return metrics


def sum_spent_usd(store: Store, *, head_usd_per_hour: float) -> float:
    """Sum the cost of the run so far, up to its last heartbeats, whatever the money was spent on.

    Args:
        store: The output folder.
        head_usd_per_hour: The head price of sessions that did not write down theirs.
    """
    sessions = read_sessions(store)
    head_usd = price_head(sessions, default_usd_per_hour=head_usd_per_hour)
    return sum_paid_usd([], list(Ledger(store).read_stints()), head_usd=head_usd, lost_s=join_losses(sessions))


def _put_if_changed(store: Store, key: str, content: bytes) -> None:
    """Catalogs look at the dates of files, so a file that would not change is not written."""
    try:
        same = store.get(key) == content
    except (FileNotFoundError, DamagedError):
        same = False
    if not same:
        store.put(key, content)


def _find_version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
