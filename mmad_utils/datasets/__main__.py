"""Command line of the data sets: ``python -m mmad_utils.datasets list | fetch NAME | check NAME | generate NAME``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from . import check_images, data_home, describe, load, record
from .download import OPENML_TABLES, fetch
from .mvtec import generate

SHARED = ("openml", "split_csv")  # folders that are not categories or tables


def main(arguments: list[str] | None = None) -> int:
    """Run one command; return the exit status 0, or 2 after an error message."""
    parser = argparse.ArgumentParser(prog="python -m mmad_utils.datasets", description=__doc__)
    parser.add_argument("--data-home", type=Path, help="folder of the data (default: $MMAD_DATA_HOME, else data/)")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="list the data sets: name, modality, available files, source")
    for command, text in (
        ("fetch", "download a data set"),
        ("check", "read a whole data set and describe it"),
    ):
        commands.add_parser(command, help=text).add_argument("name")
    making = commands.add_parser("generate", help="write a synthetic category in MVTec's layout")
    making.add_argument("name", help="synthetic/hazelnut or synthetic/zipper")
    for option, default in (("--seed", 0), ("--n-train", 200), ("--n-test", 100), ("--size", 256)):
        making.add_argument(option, type=int, default=default, help=f"default {default}")
    making.add_argument("--output", type=Path, required=True, help="folder to write; must not exist yet")
    options = parser.parse_args(arguments)
    home = data_home(options.data_home)
    try:
        match options.command:
            case "list":
                show_list(home)
            case "fetch":
                show_fetch(options.name, home)
            case "check":
                show_check(options.name, home)
            case "generate":
                family, _, category = options.name.partition("/")
                if family != "synthetic":
                    raise record.DatasetError(f"{options.name}: only synthetic/<category> can be generated.")
                numbers = {key: getattr(options, key) for key in ("seed", "n_train", "n_test", "size")}
                generate(category, options.output, **numbers)
                print(options.output)
    except record.DatasetError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def show_list(home: Path) -> None:
    """Print one row for each name pattern: name, modality, available data, source."""
    for entry in record.manifest():
        name = entry["name"]
        if not entry["layout"]:
            state = "always available"
        else:
            state = ", ".join(at_hand(name, home)) or ("can be fetched" if entry["fetch"] else "not there")
        print(f"{name:24} {entry['modality']:8} {state:24} {entry['source']}")


def show_fetch(name: str, home: Path) -> None:
    """Download the files of a data set, and print their paths."""
    entry = describe(name, home)
    if not entry["layout"]:
        raise record.DatasetError(f"{name} is always available; no files are fetched for it.")
    print(f"origin   {entry['source']}\nlicence  {entry['licence']}")
    for path in fetch(name, home):
        print(path)


def at_hand(name: str, home: Path) -> list[str]:
    """The data of a name pattern that are available below `home`."""
    if name.startswith("mnist"):
        return ["at hand"] if [*home.glob("**/t10k-images-idx3-ubyte*")] else []
    if name.startswith("tables/openml"):
        return sorted(path.stem for path in (home / "tables" / "openml").glob("*.arff"))
    if (stem := name.removeprefix("tables/")) in OPENML_TABLES:
        return ["at hand"] if (home / "tables" / "openml" / f"{OPENML_TABLES[stem]}.arff").exists() else []
    folder = home / name.split("/")[0]
    if "<" not in name:
        stem = name.split("/")[-1]
        found = folder.glob(f"{stem}.*") if "/" in name else folder.glob("*.*")
        return ["at hand"] if any(found) else []
    suffixes = {".npz", ".mat", ".csv"} if name.startswith("tables") else {""}
    return sorted(path.stem for path in folder.glob("*") if path.suffix in suffixes and path.name not in SHARED)


def show_check(name: str, home: Path) -> None:
    """Load a data set, which checks all its files, and print a description."""
    dataset = load(name, data_home=home)
    anomalies = int(dataset.y_test.sum())
    print(f"name      {dataset.name} ({dataset.modality})")
    print(f"train     {record.count(dataset.X_train, dataset.name)} normal")
    print(f"test      {len(dataset.y_test) - anomalies} normal, {anomalies} anomalies")
    if isinstance(dataset.X_train, Mapping):
        parts = (
            f"{name} {' × '.join(map(str, part.shape[1:]))} {part.dtype}" for name, part in dataset.X_train.items()
        )
        print(f"sample    {', '.join(parts)}")
    elif isinstance(dataset.X_train, np.ndarray):
        print(f"sample    {' × '.join(map(str, dataset.X_train.shape[1:]))} {dataset.X_train.dtype}")
    else:
        sizes = sorted(set(check_images([*dataset.X_train, *dataset.X_test])))
        print(f"sample    image files, {', '.join(f'{width}×{height}' for height, width in sizes)} pixels")
    if "kinds_test" in dataset.source:
        kinds, counts = np.unique(dataset.source["kinds_test"], return_counts=True)
        print(f"kinds     {', '.join(f'{count} {kind}' for kind, count in zip(kinds, counts))}")
    print(f"masks     {'none' if dataset.masks_test is None else 'exact, one per test image'}")
    for key in ("origin", "licence", "sha256"):
        print(f"{key:9} {dataset.source[key]}")


if __name__ == "__main__":
    sys.exit(main())
