"""report.html: one file with its style, its script and its content, which asks no server for anything."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from importlib.resources import files

from rasterio.errors import NotGeoreferencedWarning

from batchseg.egress import encode_json, encode_text
from batchseg.ledger.records import Record
from batchseg.reports.metrics import Metrics
from batchseg.reports.page.content import collect_content
from batchseg.resolve.plan_file import PlanFile
from batchseg.schema import plain
from batchseg.store import Store


def make_report_html(plan: PlanFile, store: Store, records: Sequence[Record], metrics: Metrics) -> bytes:
    """Make the page of a run, from its output folder and, where they are still there, from its scenes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        content = collect_content(plan, store, records, metrics)
    page = files("batchseg.reports.page")
    text = page.joinpath("report.html").read_text("utf-8")
    for mark, name in (("/*STYLE*/", "report.css"), ("/*SCRIPT*/", "report.js")):
        text = text.replace(mark, page.joinpath(name).read_text("utf-8"))
    # Names come from files and users, and must not be able to end the script element.
    data = encode_json(plain(content), ascii_only=False).replace(b"<", b"\\u003c")
    return data.join(map(encode_text, text.split("/*DATA*/")))
