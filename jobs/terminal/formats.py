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
