"""The tables of the measurements, and the worst ratios."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from bench.peers.participants import OURS


@dataclass(frozen=True, slots=True)
class Row:
    tier: str
    name: str
    backend: str
    mpx: float
    wall_s: float
    start_s: float
    peak_bytes: int
    agreement: float | None
    """Agreement with our map, away from borders; None for batchseg itself."""

    @property
    def mpx_per_s(self) -> float:
        return self.mpx / self.wall_s

    @property
    def work_mpx_per_s(self) -> float:
        """Mpx/s without start-up."""
        return self.mpx / (self.wall_s - self.start_s)


@dataclass(frozen=True, slots=True)
class Ratios:
    """The worst ratios of batchseg to any peer, in one table of one tier."""

    speed: float
    work_speed: float
    memory: float


def compute_ratios(rows: Iterable[Row]) -> Ratios:
    rows = list(rows)
    ours = next(row for row in rows if row.name == OURS)
    peers = [row for row in rows if row.name != OURS]
    return Ratios(
        min(ours.mpx_per_s / peer.mpx_per_s for peer in peers),
        min(ours.work_mpx_per_s / peer.work_mpx_per_s for peer in peers),
        min(peer.peak_bytes / ours.peak_bytes for peer in peers),
    )


HEAD = "| model | participant | runs | wall s | of it start s | Mpx/s | ratio | without start | peak MB | agrees |"


def make_table(rows: Iterable[Row]) -> str:
    """Make a Markdown table. A ratio is the speed of batchseg divided by that of the peer."""
    rows = list(rows)
    lines = [HEAD, "|---" * (HEAD.count("|") - 1) + "|"]
    for row in rows:
        ours = next(one for one in rows if one.name == OURS and one.tier == row.tier)
        agrees = "" if row.agreement is None else f"{row.agreement:.4f}"
        lines.append(
            f"| {row.tier} | {row.name} | {row.backend} | {row.wall_s:.1f} | {row.start_s:.1f} | {row.mpx_per_s:.2f} | "
            f"{ours.mpx_per_s / row.mpx_per_s:.2f} | {ours.work_mpx_per_s / row.work_mpx_per_s:.2f} | "
            f"{row.peak_bytes / 1e6:.0f} | {agrees} |"
        )
    return "\n".join(lines)


def make_last_line(shipped: dict[str, Ratios]) -> str:
    """The worst ratios of the table `as each ships`. A tier that was not measured has none."""
    heavy, bulk = (f"{shipped[tier].speed:.2f}" if tier in shipped else "-" for tier in ("heavy", "bulk"))
    return f"worst ratio heavy {heavy} bulk {bulk} memory {min(ratios.memory for ratios in shipped.values()):.2f}"
