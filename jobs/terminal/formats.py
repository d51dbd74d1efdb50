"""Numbers and facts as text for people."""

from __future__ import annotations

import math
from collections.abc import Mapping


def format_line(name: str, text: str) -> str:
    """A line of a summary: the name, right-aligned, and its text."""
    return f"{name:>9}  {text}"


def format_duration(seconds: float) -> str:
    minutes, rest_s = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest_s:02d} s" if minutes else f"{seconds:.1f} s"


def format_count(num: int, word: str) -> str:
    return f"{num} {word}{'' if num == 1 else 's'}"


def format_damaged_lines(num: int) -> str:
    """Say that lines of the log were left out."""
    return f"log: {format_count(num, 'damaged line')} left out of run/log.jsonl"


def format_usd(usd: float) -> str:
    """Dollars and cents; below a dollar, two digits."""
    return f"${usd:.2f}" if usd >= 1 or usd <= 0 else f"${usd:.{1 - math.floor(math.log10(usd))}f}"


def format_shares(seconds: Mapping[str, float]) -> str:
    """The shares of the parts of a sum, the largest first, like `compute bulk 51%, write 11%`.

    Parts below one percent are left out.
    """
    total = sum(seconds.values())
    shares = {name.replace("_", " "): part / total for name, part in seconds.items()} if total else {}
    ordered = sorted(shares.items(), key=lambda item: -item[1])
    return ", ".join(f"{name} {share:.0%}" for name, share in ordered if share >= 0.01)


MAX_CLASSES_LISTED = 12


def format_areas(area_km2: Mapping[str, float] | None, num_px: Mapping[str, int]) -> str:
    """The ground of each class with its share, like `water 1.2000 km² (12.0%), land 8.8000 km² (88.0%)`.

    Where the area is unknown, millions of pixels take its place. Of many classes, the largest are listed.
    """
    total_px = sum(num_px.values())
    if not total_px:
        return "none yet"
    sizes = {name: f"{num / 1e6:.2f} Mpx" for name, num in num_px.items()}
    if area_km2 is not None:
        sizes = {name: format_km2(km2) for name, km2 in area_km2.items()}
    names = list(sizes)
    if len(names) > MAX_CLASSES_LISTED:
        names = sorted(names, key=lambda name: -num_px[name])[:MAX_CLASSES_LISTED]
    parts = [f"{name} {sizes[name]} ({_share(name, area_km2, num_px):.1%})" for name in names]
    more = len(sizes) - len(names)
    return ", ".join([*parts, *([f"and {more} more"] if more else [])])


def _share(name: str, area_km2: Mapping[str, float] | None, num_px: Mapping[str, int]) -> float:
    parts: Mapping[str, float] = num_px if area_km2 is None else area_km2
    total = sum(parts.values())
    return parts[name] / total if total else 0.0


def format_km2(km2: float) -> str:
    """Square kilometres with four decimals, like the ground of a run; small areas with three digits."""
    return f"{km2:.4f} km²" if km2 >= 0.01 or not km2 else f"{km2:.3g} km²"
