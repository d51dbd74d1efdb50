"""The gain from the heavy model, and whether uncertainty finds the tiles that gain.

    python -m bench.tiers [--size 14336] [--seed 4242] [--core 512] [--folder DIR] [--plot FILE.svg]
    python -m bench.tiers --scene a.tif --labels a_labels.tif [--copies 5] [--bulk REF --heavy REF] [--accept gsd]

The command runs in turns: the bulk model alone (which also scores every tile), the heavy model alone, and routes by
uncertainty at two shares. The map of any other route is composed of tiles of the first two, and checked against the
runs. The first table has mIoU by the share of heavy tiles, ordered by uncertainty, by chance, and by the true gain of
each tile. Further tables have thresholds, cost, and how visible the borders between tiers are. Borders are compared
with the same lines in the maps of one tier alone, since routes draw borders where the ground is difficult.
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
from bench.scale import write_mosaic
from bench.tier_maps import TierMaps, measure_change_rates, read_band, read_maps

SHARES = (0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
RUN_SHARES = (0.1, 0.25)
THRESHOLDS = (0.05, 0.08, 0.1, 0.12, 0.15, 0.2, 0.25, 0.3)


def run_cheapest(recipes: dict[str, dict[str, Any]], folder: Path, rounds: int) -> dict[str, Metrics]:
    """The metrics of each recipe's cheapest run. Recipes take turns, since the speed of a machine varies."""
    turns = [{name: run_recipe(folder, name, recipe) for name, recipe in recipes.items()} for _ in range(rounds)]
    return {name: min((turn[name] for turn in turns), key=compute_usd) for name in recipes}


def run_recipe(folder: Path, name: str, changes: dict[str, Any]) -> Metrics:
    """Run a recipe in its own process, and return its metrics."""
    output, recipe = folder / name, folder / f"{name}.yaml"
    shutil.rmtree(output, ignore_errors=True)
    recipe.write_text(yaml.safe_dump({"output": str(output)} | changes))
    command = [sys.executable, "-m", "jobs", "run", str(recipe), "--quiet"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return read_metrics(LocalStore(output))


def compute_usd(metrics: Metrics) -> float:
    """Dollars of a run without its start."""
    return metrics.cost_usd - metrics.cost.start


def order_tiles(maps: TierMaps) -> dict[str, NDArray[np.intp]]:
    """Valid tiles in the order in which they become heavy, by criterion."""
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


def choose_tiles(maps: TierMaps, order: NDArray[np.intp], share: float) -> NDArray[np.bool_]:
    heavy = np.zeros(len(maps.scores), bool)
    heavy[order[: round(share * len(order))]] = True
    return heavy


def compute_curves(maps: TierMaps) -> dict[str, list[float]]:
    return {
        name: [maps.compute_miou(choose_tiles(maps, order, share)) for share in SHARES]
        for name, order in order_tiles(maps).items()
    }


def print_curves(maps: TierMaps, miou_by_order: dict[str, list[float]]) -> None:
    low, high = miou_by_order["chance"][0], maps.compute_miou(maps.scores != NO_SCORE, "heavy")
    print(f"\nmIoU: bulk alone {low:.4f}, heavy alone {high:.4f}; of the gap between them, by share of heavy tiles:\n")
    print("| heavy tiles | mIoU, uncertainty | gap closed | mIoU, chance | gap closed | mIoU, knowing the gain |")
    print("|---|---|---|---|---|---|")
    for i, share in enumerate(SHARES):
        by, chance, best = (miou_by_order[name][i] for name in ("uncertainty", "chance", "knowing the gain"))
        gaps = [(value - low) / (high - low) for value in (by, chance)]
        print(f"| {share:.0%} | {by:.4f} | {gaps[0]:.0%} | {chance:.4f} | {gaps[1]:.0%} | {best:.4f} |")
    areas = {name: float(np.trapezoid(values, SHARES)) for name, values in miou_by_order.items()}
    print("\narea under the curve: " + ", ".join(f"{name} {area:.4f}" for name, area in areas.items()))
    worse = [
        f"{s:.0%}"
        for s, a, b in zip(SHARES, miou_by_order["uncertainty"], miou_by_order["chance"], strict=True)
        if a < b
    ]
    print(f"shares where uncertainty is worse than chance: {', '.join(worse) or 'none'}")


def print_thresholds(maps: TierMaps) -> None:
    valid = maps.scores != NO_SCORE
    print("\n| uncertain: above | heavy tiles | mIoU |\n|---|---|---|")
    for above in THRESHOLDS:
        heavy = valid & (maps.scores >= above * SCORE_TOP)
        print(f"| {above} | {heavy.sum() / valid.sum():.1%} | {maps.compute_miou(heavy):.4f} |")


def print_costs(metrics: dict[str, Metrics]) -> None:
    def compute(m: Metrics) -> float:
        return m.cost.compute_bulk + m.cost.compute_heavy

    base = metrics["heavy"]
    print(
        "\n| run | heavy tiles | compute, $ per km² | of heavy alone | whole, $ per km² | of heavy alone |\n"
        + "|---" * 6
        + "|"
    )
    for name, m in metrics.items():
        area = m.area_km2 or 1.0
        print(
            f"| {name} | {m.heavy_share or 0:.1%} | {compute(m) / area:.3g} | {compute(m) / compute(base):.1%} | "
            f"{compute_usd(m) / area:.3g} | {compute_usd(m) / compute_usd(base):.1%} |"
        )


def print_seams(maps: TierMaps) -> None:
    """Print how often labels change at borders between tiers, compared with the same lines in the maps of one tier."""
    print(
        "\n| heavy tiles | route | edges | change at tier borders | of one tier's | worst line inside | of one tier's |"
    )
    print("|---|---|---|---|---|---|---|")
    deep_px = maps.fade_px
    for share in RUN_SHARES:
        for name in ("uncertainty", "chance"):
            tier_HW = maps.expand_tiers(choose_tiles(maps, order_tiles(maps)[name], share))
            alone = [
                measure_change_rates(maps, labels_HW, tier_HW, deep_px) for labels_HW in (maps.bulk_HW, maps.heavy_HW)
            ]
            for edges, labels_HW in (("hard", maps.heavy_HW), (f"{deep_px} px", maps.faded_HW)):
                rates = measure_change_rates(maps, np.where(tier_HW, labels_HW, maps.bulk_HW), tier_HW, deep_px)
                ratios = rates / (sum(alone) / 2)
                worst = 1 + int(ratios[1:].argmax()) if deep_px else 0
                print(
                    f"| {share:.0%} | {name} | {edges} | {rates[0]:.4f} | {ratios[0]:.2f} "
                    f"| {rates[worst]:.4f} | {ratios[worst]:.2f} |"
                )


def check_runs(maps: TierMaps, folder: Path) -> None:
    """Check that the composed maps equal the maps of the command."""
    scene = next(iter(maps.plan.scenes))
    for share in RUN_SHARES:
        output = folder / f"uncertain{share:g}" / scene
        made = index_classes(read_band(output / "labels.tif"), maps.plan.class_ids, maps.plan.nodata)
        tiers_HW = read_band(output / "tier.tif")
        expected = np.where(tiers_HW == HEAVY_BY_UNCERTAINTY, maps.faded_HW, maps.bulk_HW)
        if not np.array_equal(made, expected):
            raise SystemExit(f"{output}: the map differs from the one composed of tiles of both tiers")
    print("\nthe maps of the runs at these shares equal the composed maps, byte for byte")


def draw_curves(path: Path, miou_by_order: dict[str, list[float]]) -> None:
    """Draw the curves as an SVG."""
    low, high = min(map(min, miou_by_order.values())), max(map(max, miou_by_order.values()))
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
    for number, (name, values) in enumerate(miou_by_order.items()):
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
    parser.add_argument("--size", type=int, default=14336, help="side of the synthetic scene in pixels")
    parser.add_argument(
        "--seed", type=int, default=4242, help="seed of the synthetic scene; never a seed of a training"
    )
    parser.add_argument("--scene", help="raster to use instead of a synthetic scene")
    parser.add_argument("--labels", help="reference labels of the raster")
    parser.add_argument(
        "--copies", type=int, default=1, help="copies of the scene per side; a small scene costs too little to measure"
    )
    parser.add_argument("--bulk", default="zoo:synthetic-bulk", help="bundle of the bulk tier")
    parser.add_argument("--heavy", default="zoo:synthetic-heavy", help="bundle of the heavy tier")
    parser.add_argument("--accept", nargs="*", default=[], help="`accept` of the recipes")
    parser.add_argument("--core", type=int, default=512, help="side of a core in pixels")
    parser.add_argument(
        "--chunk", type=int, default=Tiling().chunk, help="side of a chunk in pixels, rounded down to cores"
    )
    parser.add_argument("--rounds", type=int, default=3, help="rounds of all runs; the cheapest counts")
    parser.add_argument("--statistic", default="mean", help="`statistic` of `uncertain`")
    parser.add_argument("--sure", type=float, default=0.5, help="`sure` of `uncertain`")
    parser.add_argument("--fade", type=int, default=16, help="`fade` of the route")
    parser.add_argument("--folder", type=Path, help="folder for scene and outputs, which are kept")
    parser.add_argument("--plot", type=Path, help="SVG file for the curves")
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
        scene, labels = (str(write_mosaic(path, args.copies, folder / f"{path.stem}.vrt")) for path in paths)
    tiling = {"core": args.core, "chunk": args.core * (args.chunk // args.core)}
    common = {"scenes": [scene], "tiling": tiling, "accept": args.accept}
    doubt = {"statistic": args.statistic, "sure": args.sure}
    both = {"models": {"bulk": args.bulk, "heavy": args.heavy}}
    never = {"route": {"priority": [{"uncertain": doubt | {"above": 1.0}}], "fade": args.fade}}
    recipes = {"bulk": common | both | never, "heavy": common | {"models": {"heavy": args.heavy}}}
    for share in RUN_SHARES:
        route = {"route": {"priority": [{"uncertain": doubt}], "fade": args.fade}, "budget": {"heavy_share": share}}
        recipes[f"uncertain{share:g}"] = common | both | route
    metrics = run_cheapest(recipes, folder, args.rounds)
    maps = read_maps(folder / "bulk", folder / "heavy", labels, fade_px=args.fade)
    miou_by_order = compute_curves(maps)
    print(f"{scene}: {maps.truth_HW.size / 1e6:.1f} Mpx, {(maps.scores != NO_SCORE).sum()} valid tiles")
    print_curves(maps, miou_by_order)
    print_thresholds(maps)
    print_costs(metrics)
    print_seams(maps)
    check_runs(maps, folder)
    if args.plot is not None:
        draw_curves(args.plot, miou_by_order)


if __name__ == "__main__":
    main()
