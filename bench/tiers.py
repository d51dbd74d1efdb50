"""What does the heavy model buy, and does uncertainty say where?

    python bench/tiers.py [--size 14336] [--seed 4242] [--folder DIR] [--plot FILE.svg]
    python bench/tiers.py --scene a.tif --labels a_labels.tif [--bulk REF --heavy REF] [--accept gsd]

Runs of the command, one after the other: the bulk model alone (which also scores every tile), the heavy model alone,
and routes by uncertainty at two shares. A map of any other route is put together from the tiles of the first two, and
checked against the runs. Tables: mIoU over the share of heavy tiles by uncertainty, by chance, and by knowing how much
each tile gains; cost; thresholds; and how visible the borders between tiers are beside the same borders in both maps
of one tier alone, which is the only fair measure, since routes draw borders where the ground is difficult.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import rasterio
import yaml
from numpy.typing import NDArray

from batchseg.engine.route import NO_SCORE, SCORE_TOP, tile_hash
from batchseg.ledger.ledger import Ledger
from batchseg.runs.accuracy import class_index, iou_of
from batchseg.runs.planfile import PlanFile, read_plan
from batchseg.store import LocalStore
from batchseg.synth import write_scene
from tiling.grid import Grid, tiles_of

SHARES = (0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
RUN_SHARES = (0.1, 0.25)
THRESHOLDS = (0.05, 0.08, 0.1, 0.12, 0.15, 0.2, 0.25, 0.3)


@dataclass(frozen=True)
class Maps:
    """Both tiers over the same tiles, in the order of the lattice."""

    plan: PlanFile
    grid: Grid
    bulk_HW: NDArray[Any]
    heavy_HW: NDArray[Any]
    truth_HW: NDArray[Any]
    scores: NDArray[np.int64]
    """Of each tile; NO_SCORE where there is nothing to label."""
    bulk_TCC: NDArray[np.int64]
    heavy_TCC: NDArray[np.int64]

    def miou(self, heavy: NDArray[np.bool_]) -> float:
        total = np.where(heavy[:, None, None], self.heavy_TCC, self.bulk_TCC).sum(0)
        known = [iou for iou in iou_of(total) if iou is not None]
        return sum(known) / len(known)

    def tiers(self, heavy: NDArray[np.bool_]) -> NDArray[np.bool_]:
        rows, cols = self.grid.shape
        wide = heavy.reshape(rows, cols).repeat(self.grid.cell_px, 0).repeat(self.grid.cell_px, 1)
        return wide[: self.truth_HW.shape[0], : self.truth_HW.shape[1]]

    def put_together(self, heavy: NDArray[np.bool_]) -> NDArray[Any]:
        return np.where(self.tiers(heavy), self.heavy_HW, self.bulk_HW)


def run(folder: Path, name: str, **changes: Any) -> tuple[Path, dict[str, Any]]:
    """One run in a process of its own; its output and metrics."""
    output, recipe = folder / name, folder / f"{name}.yaml"
    recipe.write_text(yaml.safe_dump({"output": str(output)} | changes))
    command = [sys.executable, "-m", "jobs", "run", str(recipe), "--quiet"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return output, json.loads((output / "metrics.json").read_text())


def maps_of(bulk: Path, heavy: Path, labels: str) -> Maps:
    store = LocalStore(bulk)
    plan = read_plan(store)
    ((scene, known),) = plan.scenes.items()
    shape_px = known.georef.height_px, known.georef.width_px
    grid = Grid(shape_px, plan.core_px)
    scores = np.full(grid.shape, NO_SCORE, np.int64)
    for record in Ledger(store).records():
        for tile, score in zip(tiles_of(grid, plan.window(record.key)), record.measured.tile_scores, strict=True):
            scores[tile.row, tile.col] = score
    found = {"bulk": bulk / scene / "labels.tif", "heavy": heavy / scene / "labels.tif", "truth": labels}
    num = len(plan.class_ids)
    index = {name: class_index(_read(path), plan.class_ids, plan.nodata) for name, path in found.items()}
    confusion = {name: [] for name in ("bulk", "heavy")}
    for row, col in grid:
        window = grid.window(row, col)
        at = slice(window.rows.start, window.rows.stop), slice(window.cols.start, window.cols.stop)
        truth = index["truth"][at]
        for name, matrices in confusion.items():
            both = (truth < num) & (index[name][at] < num)
            pairs = truth[both].astype(np.int64) * num + index[name][at][both]
            matrices.append(np.bincount(pairs, minlength=num * num).reshape(num, num))
    return Maps(
        plan=plan,
        grid=grid,
        bulk_HW=index["bulk"],
        heavy_HW=index["heavy"],
        truth_HW=index["truth"],
        scores=scores.ravel(),
        bulk_TCC=np.stack(confusion["bulk"]),
        heavy_TCC=np.stack(confusion["heavy"]),
    )


def _read(path: Path | str) -> NDArray[Any]:
    with rasterio.open(path) as file:
        return file.read(1)


def orders(maps: Maps) -> dict[str, NDArray[np.intp]]:
    """Valid tiles, the first to become heavy first."""
    valid = np.flatnonzero(maps.scores != NO_SCORE)
    name = next(iter(maps.plan.scenes))
    chance = np.array([tile_hash("bench", name, *divmod(int(i), maps.grid.shape[1])) >> 1 for i in valid])
    gain = [np.trace(maps.heavy_TCC[i]) - np.trace(maps.bulk_TCC[i]) for i in valid]
    return {
        "uncertainty": valid[np.argsort(-maps.scores[valid], kind="stable")],
        "chance": valid[np.argsort(chance)],
        "knowing the gain": valid[np.argsort(-np.array(gain), kind="stable")],
    }


def chosen(maps: Maps, order: NDArray[np.intp], share: float) -> NDArray[np.bool_]:
    heavy = np.zeros(len(maps.scores), bool)
    heavy[order[: round(share * len(order))]] = True
    return heavy


def curves(maps: Maps) -> dict[str, list[float]]:
    return {name: [maps.miou(chosen(maps, order, share)) for share in SHARES] for name, order in orders(maps).items()}


def show_curves(found: dict[str, list[float]]) -> None:
    low, high = found["chance"][0], found["chance"][-1]
    print(f"\nmIoU: bulk alone {low:.4f}, heavy alone {high:.4f}; of the gap between them, by share of heavy tiles:\n")
    print("| heavy tiles | mIoU, uncertainty | gap closed | mIoU, chance | gap closed | mIoU, knowing the gain |")
    print("|---|---|---|---|---|---|")
    for i, share in enumerate(SHARES):
        by, chance, best = (found[name][i] for name in ("uncertainty", "chance", "knowing the gain"))
        gaps = [(value - low) / (high - low) for value in (by, chance)]
        print(f"| {share:.0%} | {by:.4f} | {gaps[0]:.0%} | {chance:.4f} | {gaps[1]:.0%} | {best:.4f} |")
    areas = {name: float(np.trapezoid(values, SHARES)) for name, values in found.items()}
    print("\narea under the curve: " + ", ".join(f"{name} {area:.4f}" for name, area in areas.items()))
    worse = [f"{s:.0%}" for s, a, b in zip(SHARES, found["uncertainty"], found["chance"], strict=True) if a < b]
    print(f"shares where uncertainty is worse than chance: {', '.join(worse) or 'none'}")


def show_thresholds(maps: Maps) -> None:
    valid = maps.scores != NO_SCORE
    print("\n| uncertain: above | heavy tiles | mIoU |\n|---|---|---|")
    for above in THRESHOLDS:
        heavy = valid & (maps.scores >= above * SCORE_TOP)
        print(f"| {above} | {heavy.sum() / valid.sum():.1%} | {maps.miou(heavy):.4f} |")


def show_costs(metrics: dict[str, dict[str, Any]]) -> None:
    def compute(m: dict[str, Any]) -> float:
        return m["cost"]["compute_bulk"] + m["cost"]["compute_heavy"]

    def whole(m: dict[str, Any]) -> float:
        """Without the pilot, which is a worker that only starts."""
        return m["cost_usd"] - m["cost"]["start"]

    base = metrics["heavy"]
    print(
        "\n| run | heavy tiles | compute, $ a km² | of heavy alone | whole, $ a km² | of heavy alone |\n"
        + "|---" * 6
        + "|"
    )
    for name, m in metrics.items():
        area = m["area_km2"] or 1.0
        print(
            f"| {name} | {m['heavy_share']:.1%} | {compute(m) / area:.3g} | {compute(m) / compute(base):.1%} | "
            f"{whole(m) / area:.3g} | {whole(m) / whole(base):.1%} |"
        )


def show_seams(maps: Maps) -> None:
    """How often labels change over the borders between tiers, beside the same borders in the maps of one tier."""
    print("\n| heavy tiles | route | change at tier borders | there, bulk alone | there, heavy alone | ratio |")
    print("|---|---|---|---|---|---|")
    for share in RUN_SHARES:
        for name in ("uncertainty", "chance"):
            heavy = chosen(maps, orders(maps)[name], share)
            tier_HW = maps.tiers(heavy)
            mixed, bulk, heavy_rate = (
                _rate(labels, tier_HW, maps) for labels in (maps.put_together(heavy), maps.bulk_HW, maps.heavy_HW)
            )
            ratio = mixed / ((bulk + heavy_rate) / 2)
            print(f"| {share:.0%} | {name} | {mixed:.4f} | {bulk:.4f} | {heavy_rate:.4f} | {ratio:.2f} |")


def _rate(labels_HW: NDArray[Any], tier_HW: NDArray[np.bool_], maps: Maps) -> float:
    """Changes over pairs, where a core border lies between the tiers."""
    num, changes, pairs = len(maps.plan.class_ids), 0, 0
    for labels, tiers in ((labels_HW, tier_HW), (labels_HW.T, tier_HW.T)):
        lines = np.arange(maps.grid.cell_px, labels.shape[0], maps.grid.cell_px)
        above, below = labels[lines - 1], labels[lines]
        counted = (tiers[lines - 1] != tiers[lines]) & (above < num) & (below < num)
        changes += int(((above != below) & counted).sum())
        pairs += int(counted.sum())
    return changes / max(1, pairs)


def check_runs(maps: Maps, folder: Path) -> None:
    """What is put together here is what the command makes."""
    scene = next(iter(maps.plan.scenes))
    for share in RUN_SHARES:
        output = folder / f"uncertain{share:g}" / scene
        made = class_index(_read(output / "labels.tif"), maps.plan.class_ids, maps.plan.nodata)
        tiers_HW = _read(output / "tier.tif")
        expected = np.where(tiers_HW == 2, maps.heavy_HW, maps.bulk_HW)
        if not np.array_equal(made, expected):
            raise SystemExit(f"{output}: not what the tiles of both tiers put together give")
    print("\nthe runs at these shares are put together as computed here, byte for byte")


def draw(path: Path, found: dict[str, list[float]]) -> None:
    """The curves as an SVG."""
    low, high = min(map(min, found.values())), max(map(max, found.values()))
    left, top, width, height = 60, 20, 480, 280
    colours = {"uncertainty": "#cb181d", "chance": "#6b7280", "knowing the gain": "#2563eb"}
    box = f"0 0 {left + width + 20} {top + height + 50}"
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{box}" font-family="sans-serif" font-size="12">']
    parts.append('<rect width="100%" height="100%" fill="white"/>')
    for share in (0, 0.25, 0.5, 0.75, 1):
        x = left + share * width
        parts.append(f'<path d="M{x} {top}V{top + height}" stroke="#ddd"/>')
        parts.append(f'<text x="{x}" y="{top + height + 16}" text-anchor="middle">{share:.0%}</text>')
    for value in np.linspace(low, high, 5):
        y = top + height * (1 - (value - low) / (high - low))
        parts.append(f'<path d="M{left} {y:.1f}H{left + width}" stroke="#ddd"/>')
        parts.append(f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{value:.3f}</text>')
    for number, (name, values) in enumerate(found.items()):
        points = " ".join(
            f"{left + share * width:.1f},{top + height * (1 - (value - low) / (high - low)):.1f}"
            for share, value in zip(SHARES, values, strict=True)
        )
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colours[name]}" stroke-width="2"/>')
        parts.append(
            f'<text x="{left + 330}" y="{top + height - 50 + 16 * number}" fill="{colours[name]}">{name}</text>'
        )
    parts.append(f'<text x="{left + width / 2}" y="{top + height + 40}" text-anchor="middle">heavy tiles</text>')
    parts.append(f'<text x="4" y="{top - 6}">mIoU</text></svg>')
    path.write_text("\n".join(parts) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=14336, help="pixels a side of the synthetic scene")
    parser.add_argument("--seed", type=int, default=4242, help="of the synthetic scene; never one that was trained on")
    parser.add_argument("--scene", help="a raster instead of a synthetic scene")
    parser.add_argument("--labels", help="its reference")
    parser.add_argument("--bulk", default="zoo:synthetic-bulk")
    parser.add_argument("--heavy", default="zoo:synthetic-heavy")
    parser.add_argument("--accept", nargs="*", default=[], help="as in a recipe")
    parser.add_argument("--folder", type=Path, help="where scene and outputs go, and stay")
    parser.add_argument("--plot", type=Path, help="an SVG of the curves")
    args = parser.parse_args()
    with TemporaryDirectory() as scratch:
        measure(args, args.folder or Path(scratch))


def measure(args: argparse.Namespace, folder: Path) -> None:
    scene, labels = args.scene, args.labels
    if scene is None:
        scene, labels = str(folder / "input" / "scene.tif"), str(folder / "input" / "labels.tif")
        if not Path(scene).exists():
            write_scene(folder / "input", size_px=args.size, seed=args.seed)
    common = {"scenes": [scene], "tiling": {"core": 512, "chunk": 2048}, "accept": args.accept}
    both = {"models": {"bulk": args.bulk, "heavy": args.heavy}}
    never = {"route": {"priority": [{"uncertain": {"above": 1.0}}]}}
    metrics = {}
    bulk, metrics["bulk"] = run(folder, "bulk", **common, **both, **never)
    heavy, metrics["heavy"] = run(folder, "heavy", **common, models={"heavy": args.heavy})
    for share in RUN_SHARES:
        route = {"route": {"priority": ["uncertain"]}, "budget": {"heavy_share": share}}
        _, metrics[f"uncertain{share:g}"] = run(folder, f"uncertain{share:g}", **common, **both, **route)
    maps = maps_of(bulk, heavy, labels)
    found = curves(maps)
    print(f"{scene}: {maps.truth_HW.size / 1e6:.1f} Mpx, {(maps.scores != NO_SCORE).sum()} valid tiles")
    show_curves(found)
    show_thresholds(maps)
    show_costs(metrics)
    show_seams(maps)
    check_runs(maps, folder)
    if args.plot is not None:
        draw(args.plot, found)


if __name__ == "__main__":
    main()
