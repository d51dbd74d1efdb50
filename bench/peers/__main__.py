"""The speed of batchseg and of four peers, which users would take instead: one scene, one set of weights.

    make bench-peers SIZE=4096
    python -m bench.peers [--size 4096] [--tiers heavy bulk] [--peers loop monai_window …] [--backends eager compiled
                          openvino] [--heavy BUNDLE] [--bulk BUNDLE] [--folder out/peers] [--again]

Every participant is a process that reads the scene and writes a GeoTIFF of labels. The whole process is timed, with its
start-up. There are two tables: as each ships, where peers run the network in torch, eager and compiled; and with our
compiled graph in every peer. The status is 1 if a map differs from ours, away from the borders of tiles, by more than
the tier's floor allows. README.md beside this file explains how each peer is set up.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import get_args

import rasterio

from batchseg.ledger.ledger import Ledger
from batchseg.model.bundle import open_bundle
from batchseg.store import LocalStore
from batchseg.synth import write_scene
from bench.peers.agreement import Agreement, compare_maps
from bench.peers.participants import OURS, PEERS, ROOT, Peer
from bench.peers.peer_model import CORE_PX, Backend
from bench.peers.process_usage import ProcessUsage, measure_process
from bench.peers.tables import Row, compute_ratios, make_last_line, make_table

FLOORS = {"heavy": 0.97, "bulk": 0.99}
"""Least share of pixels that must agree. The bulk model sees no further than its halo, so only rounding may differ. The
heavy model attends to its whole tile, and peers place their tiles elsewhere."""
TABLES = {
    "As each ships": ("eager", "compiled"),
    "With our compiled model in every peer": ("openvino",),
}
SEED, GREY = 5, 100


def prepare_scene(folder: Path, size_px: int) -> Path:
    """A synthetic scene without its corner of nodata, which peers do not support."""
    place = folder / f"scene-{size_px}"
    whole = place / "whole.tif"
    if not whole.exists():
        write_scene(place, size_px=size_px, seed=SEED)
        unfinished = whole.with_suffix(".part")
        fill_nodata(place / "scene.tif", unfinished)
        unfinished.rename(whole)
    whole.read_bytes()  # loads it into the page cache, so that the first participant has no disadvantage
    return whole


def fill_nodata(scene: Path, path: Path) -> None:
    with rasterio.open(scene) as file, rasterio.open(path, "w", **file.profile) as out:
        out.descriptions, out.colorinterp = file.descriptions, file.colorinterp
        for _, window in file.block_windows(1):
            pixels_BHW = file.read(window=window)
            pixels_BHW[:, (pixels_BHW == file.nodata).all(0)] = GREY
            out.write(pixels_BHW, window=window)


def prepare_caches(ref: str, peers: list[Peer], backends: list[Backend], cache: Path) -> None:
    """Fill the caches that libraries keep between runs: graphs that are converted or compiled once."""
    forms = {peer.form for peer in peers} | {"labels"}
    for backend in (backend for backend in ("compiled", "openvino") if backend in (*backends, "openvino")):
        for form in sorted(forms if backend in backends else {"labels"}):
            arguments = ["--model", ref, "--backend", backend, "--form", form, "--cache", str(cache)]
            subprocess.run([sys.executable, "-m", "bench.peers.peer_model", *arguments], cwd=ROOT, check=True)


def run_peer(peer: Peer, ref: str, backend: Backend, scene: Path, folder: Path) -> tuple[ProcessUsage, Path]:
    labels = folder / f"{peer.module}-{backend}.tif"
    python = peer.python(folder.parent / "environments")
    files: list[str | Path] = ["--scene", scene, "--labels", labels, "--cache", folder / "cache"]
    command = [python, "-m", f"bench.peers.{peer.module}", *files, "--model", ref, "--backend", backend]
    return measure_process(command, ROOT, labels.with_suffix(".log")), labels


def run_ours(tier: str, ref: str, scene: Path, folder: Path) -> tuple[ProcessUsage, Path]:
    """Run batchseg from the command line, with a recipe of three lines and every default."""
    output, recipe = folder / "ours", folder / "recipe.yaml"
    shutil.rmtree(output, ignore_errors=True)
    recipe.write_text(f"scenes: [{scene}]\noutput: {output}\nmodels: {{{tier}: '{ref}'}}\n")
    usage = measure_process([sys.executable, "-m", "jobs", "run", recipe, "--quiet"], ROOT, folder / "ours.log")
    stint = next(Ledger(LocalStore(output)).read_stints())
    begun_unix_s = recipe.stat().st_mtime  # the command started right after this file was written
    return (
        ProcessUsage(usage.wall_s, stint.begun_unix_s + stint.start_s - begun_unix_s, usage.peak_bytes),
        output / scene.stem / "labels.tif",
    )


def check_map(peer: Peer, tier: str, ref: str, ours: Path, theirs: Path, size_px: int) -> Agreement:
    halo_px = open_bundle(ref).contract.halo_px
    edges_px = [*range(0, size_px, CORE_PX), *peer.list_edges_px(size_px, CORE_PX + 2 * halo_px)]
    return compare_maps(ours, theirs, edges_px, halo_px)


def measure_tier(tier: str, args: argparse.Namespace) -> list[Row]:
    ref, folder = vars(args)[tier], (args.folder / tier).absolute()
    (folder / "cache").mkdir(parents=True, exist_ok=True)
    scene = prepare_scene(args.folder.absolute(), args.size)
    peers = [peer for peer in PEERS if peer.module in args.peers]
    prepare_caches(ref, peers, args.backends, folder / "cache")
    row = partial(Row, tier, mpx=args.size**2 / 1e6)
    usage, ours = run_ours(tier, ref, scene, folder)
    rows = [row(name=OURS, backend="openvino", **asdict(usage), agreement=None)]
    keep_rows(args.folder, args.size, rows)
    for backend in args.backends:
        for peer in peers:
            usage, labels = run_peer(peer, ref, backend, scene, folder)
            agreement = check_map(peer, tier, ref, ours, labels, args.size)
            rows.append(row(name=peer.name, backend=backend, **asdict(usage), agreement=agreement.away))
            keep_rows(args.folder, args.size, rows[-1:])
            print(
                f"{tier}, {peer.name}, {backend}: {usage.wall_s:.1f} s, equal pixels {agreement.away:.4f} away from "
                f"borders of tiles, {agreement.near:.4f} near them",
                flush=True,
            )
    return rows


def keep_rows(folder: Path, size_px: int, rows: list[Row]) -> list[Row]:
    """Add these rows to the stored ones of this size; a later row replaces an earlier one."""
    path = folder / f"results-{size_px}.json"
    before = [Row(**row) for row in json.loads(path.read_text())] if path.exists() else []
    known = {(row.tier, row.name, row.backend): row for row in (*before, *rows)}
    path.write_text(json.dumps([asdict(row) for row in known.values()], indent=1))
    return list(known.values())


def print_report(rows: list[Row]) -> None:
    """Print the tables, then the worst ratios; the last line is that of the table `as each ships`."""
    endings: list[str] = []
    last = ""
    for title, backends in TABLES.items():
        chosen = [row for row in rows if row.name == OURS or row.backend in backends]
        if all(row.name == OURS for row in chosen):
            continue
        print(f"\n{title}:\n\n{make_table(chosen)}")
        worst = {
            tier: compute_ratios(row for row in chosen if row.tier == tier) for tier in {row.tier for row in chosen}
        }
        ahead = ", ".join(f"{tier} {of.work_speed:.2f}" for tier, of in sorted(worst.items(), reverse=True))
        last = last or make_last_line(worst)
        endings += [f"{title}: {make_last_line(worst)}; without start-up {ahead}"]
    print("", *endings, last, sep="\n")


def find_failures(rows: list[Row]) -> list[str]:
    return [
        f"{row.tier}: the map of {row.name} ({row.backend}) has {row.agreement:.4f} of our pixels, expected "
        f"{FLOORS[row.tier]} or more"
        for row in rows
        if row.agreement is not None and row.agreement < FLOORS[row.tier]
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=4096, help="side of the scene in pixels (default 4096)")
    parser.add_argument("--tiers", nargs="+", choices=list(FLOORS), default=list(FLOORS), help="tiers to measure")
    parser.add_argument("--heavy", default="zoo:synthetic-heavy", help="bundle of the heavy tier")
    parser.add_argument("--bulk", default="zoo:synthetic-bulk", help="bundle of the bulk tier")
    names = [peer.module for peer in PEERS]
    parser.add_argument("--peers", nargs="+", choices=names, default=names, help="peers to run")
    parser.add_argument("--backends", nargs="+", choices=get_args(Backend), default=list(get_args(Backend)))
    parser.add_argument(
        "--folder", type=Path, default=Path("out/peers"), help="folder for environments, scenes and maps"
    )
    parser.add_argument(
        "--again", action="store_true", help="measure nothing; print the tables of all runs of this size"
    )
    args = parser.parse_args()
    rows = (
        keep_rows(args.folder, args.size, [])
        if args.again
        else [row for tier in args.tiers for row in measure_tier(tier, args)]
    )
    # A comparison is meaningless if maps differ, so this comes before any figure.
    if wrong := find_failures(rows):
        sys.exit("\n".join(wrong))
    print_report(rows)


if __name__ == "__main__":
    main()
