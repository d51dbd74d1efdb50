"""What does the heavy model buy, and does uncertainty say where?

    python -m bench.tiers [--size 14336] [--seed 4242] [--core 512] [--folder DIR] [--plot FILE.svg]
    python -m bench.tiers --scene a.tif --labels a_labels.tif [--copies 5] [--bulk REF --heavy REF] [--accept gsd]

Runs of the command, in turns: the bulk model alone (which also scores every tile), the heavy model alone,
and routes by uncertainty at two shares. A map of any other route is put together from the tiles of the first two, and
checked against the runs. Tables: mIoU over the share of heavy tiles by uncertainty, by chance, and by knowing how much
each tile gains; cost; thresholds; and how visible the borders between tiers are beside the same borders in both maps
of one tier alone, which is the only fair measure, since routes draw borders where the ground is difficult.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from batchseg.engine.route import NO_SCORE, SCORE_TOP, hash_tile
from batchseg.recipe import Tiling
from batchseg.reports.metrics import Metrics, read_metrics
from batchseg.score.agreement import index_classes
from batchseg.store import LocalStore
from batchseg.synth import write_scene
from batchseg.tiers import HEAVY_BY_UNCERTAINTY
from bench.scale import mosaic
from bench.tiermaps import Maps, change_rates, maps_of, read

SHARES = (0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
RUN_SHARES = (0.1, 0.25)
THRESHOLDS = (0.05, 0.08, 0.1, 0.12, 0.15, 0.2, 0.25, 0.3)


def cheapest(recipes: dict[str, dict[str, Any]], folder: Path, rounds: int) -> dict[str, Metrics]:
    """The metrics of each recipe's cheapest run; all in turns, since a machine has better and worse minutes."""
    turns = [{name: run(folder, name, recipe) for name, recipe in recipes.items()} for _ in range(rounds)]
    return {name: min((turn[name] for turn in turns), key=whole_usd) for name in recipes}


def run(folder: Path, name: str, changes: dict[str, Any]) -> Metrics:
    """One run in a process of its own; its metrics."""
    output, recipe = folder / name, folder / f"{name}.yaml"
    shutil.rmtree(output, ignore_errors=True)
    recipe.write_text(yaml.safe_dump({"output": str(output)} | changes))
    command = [sys.executable, "-m", "jobs", "run", str(recipe), "--quiet"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return read_metrics(LocalStore(output))


def whole_usd(metrics: Metrics) -> float:
    """Without the pilot, which is a worker that only starts."""
    return metrics.cost_usd - metrics.cost.start


def orders(maps: Maps) -> dict[str, NDArray[np.intp]]:
    """Valid tiles, the first to become heavy first."""
    valid = np.flatnonzero(maps.scores != NO_SCORE)
    name = next(iter(maps.plan.scenes))
    chance = np.array([hash_tile("bench", name, *divmod(int(i), maps.grid.shape[1])) >> 1 for i in valid])
    right = {name: np.trace(confusion, axis1=1, axis2=2) for name, confusion in maps.confusion.items()}
    gain = (right["faded"] - right["bulk"])[valid]
    return {
        "uncertainty": valid[np.argsort(-maps.scores[valid], kind="stable")],
        "chance": valid[np.argsort(chance)],
        "knowing the gain": valid[np.argsort(-gain, kind="stable")],
    }


def chosen(maps: Maps, order: NDArray[np.intp], share: float) -> NDArray[np.bool_]:
    heavy = np.zeros(len(maps.scores), bool)
    heavy[order[: round(share * len(order))]] = True
    return heavy


def curves(maps: Maps) -> dict[str, list[float]]:
    return {name: [maps.miou(chosen(maps, order, share)) for share in SHARES] for name, order in orders(maps).items()}


def show_curves(maps: Maps, found: dict[str, list[float]]) -> None:
    low, high = found["chance"][0], maps.miou(maps.scores != NO_SCORE, "heavy")
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


def show_costs(metrics: dict[str, Metrics]) -> None:
    def compute(m: Metrics) -> float:
        return m.cost.compute_bulk + m.cost.compute_heavy

    base = metrics["heavy"]
    print(
        "\n| run | heavy tiles | compute, $ a km² | of heavy alone | whole, $ a km² | of heavy alone |\n"
        + "|---" * 6
        + "|"
    )
    for name, m in metrics.items():
        area = m.area_km2 or 1.0
        print(
            f"| {name} | {m.heavy_share or 0:.1%} | {compute(m) / area:.3g} | {compute(m) / compute(base):.1%} | "
            f"{whole_usd(m) / area:.3g} | {whole_usd(m) / whole_usd(base):.1%} |"
        )


def show_seams(maps: Maps) -> None:
    """How often labels change over the borders between tiers, beside the same lines in the maps of one tier."""
    print(
        "\n| heavy tiles | route | edges | change at tier borders | of one tier's | worst line inside | of one tier's |"
    )
    print("|---|---|---|---|---|---|---|")
    deep_px = maps.fade_px
    for share in RUN_SHARES:
        for name in ("uncertainty", "chance"):
            tier_HW = maps.tiers(chosen(maps, orders(maps)[name], share))
            alone = [change_rates(maps, labels_HW, tier_HW, deep_px) for labels_HW in (maps.bulk_HW, maps.heavy_HW)]
            for edges, labels_HW in (("hard", maps.heavy_HW), (f"{deep_px} px", maps.faded_HW)):
                rates = change_rates(maps, np.where(tier_HW, labels_HW, maps.bulk_HW), tier_HW, deep_px)
                ratios = rates / (sum(alone) / 2)
                worst = 1 + int(ratios[1:].argmax()) if deep_px else 0
                print(
                    f"| {share:.0%} | {name} | {edges} | {rates[0]:.4f} | {ratios[0]:.2f} "
                    f"| {rates[worst]:.4f} | {ratios[worst]:.2f} |"
                )


def check_runs(maps: Maps, folder: Path) -> None:
    """What is put together here is what the command makes."""
    scene = next(iter(maps.plan.scenes))
    for share in RUN_SHARES:
        output = folder / f"uncertain{share:g}" / scene
        made = index_classes(read(output / "labels.tif"), maps.plan.class_ids, maps.plan.nodata)
        tiers_HW = read(output / "tier.tif")
        expected = np.where(tiers_HW == HEAVY_BY_UNCERTAINTY, maps.faded_HW, maps.bulk_HW)
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
    parser.add_argument("--copies", type=int, default=1, help="of a scene, a side: costs of a small one say little")
    parser.add_argument("--bulk", default="zoo:synthetic-bulk")
    parser.add_argument("--heavy", default="zoo:synthetic-heavy")
    parser.add_argument("--accept", nargs="*", default=[], help="as in a recipe")
    parser.add_argument("--core", type=int, default=512, help="pixels a side of a tile's core")
    parser.add_argument("--chunk", type=int, default=Tiling().chunk, help="the same, of a chunk, rounded down to cores")
    parser.add_argument("--rounds", type=int, default=3, help="of all runs, in turns; the cheapest of each counts")
    parser.add_argument("--statistic", default="mean", help="these three as in a recipe's `uncertain`")
    parser.add_argument("--sure", type=float, default=0.5)
    parser.add_argument("--fade", type=int, default=16)
    parser.add_argument("--folder", type=Path, help="where scene and outputs go, and stay")
    parser.add_argument("--plot", type=Path, help="an SVG of the curves")
    args = parser.parse_args()
    with TemporaryDirectory() as scratch:
        measure(args, args.folder or Path(scratch))


def measure(args: argparse.Namespace, folder: Path) -> None:
    scene, labels = args.scene, args.labels
    folder.mkdir(parents=True, exist_ok=True)
    if scene is None:
        scene, labels = str(folder / "input" / "scene.tif"), str(folder / "input" / "labels.tif")
        if not Path(scene).exists():
            write_scene(folder / "input", size_px=args.size, seed=args.seed)
    elif args.copies > 1:
        paths = [Path(path).resolve() for path in (scene, labels)]
        scene, labels = (str(mosaic(path, args.copies, folder / f"{path.stem}.vrt")) for path in paths)
    tiling = {"core": args.core, "chunk": args.core * (args.chunk // args.core)}
    common = {"scenes": [scene], "tiling": tiling, "accept": args.accept}
    doubt = {"statistic": args.statistic, "sure": args.sure}
    both = {"models": {"bulk": args.bulk, "heavy": args.heavy}}
    never = {"route": {"priority": [{"uncertain": doubt | {"above": 1.0}}], "fade": args.fade}}
    recipes = {"bulk": common | both | never, "heavy": common | {"models": {"heavy": args.heavy}}}
    for share in RUN_SHARES:
        route = {"route": {"priority": [{"uncertain": doubt}], "fade": args.fade}, "budget": {"heavy_share": share}}
        recipes[f"uncertain{share:g}"] = common | both | route
    metrics = cheapest(recipes, folder, args.rounds)
    maps = maps_of(folder / "bulk", folder / "heavy", labels, fade_px=args.fade)
    found = curves(maps)
    print(f"{scene}: {maps.truth_HW.size / 1e6:.1f} Mpx, {(maps.scores != NO_SCORE).sum()} valid tiles")
    show_curves(maps, found)
    show_thresholds(maps)
    show_costs(metrics)
    show_seams(maps)
    check_runs(maps, folder)
    if args.plot is not None:
        draw(args.plot, found)


if __name__ == "__main__":
    main()
