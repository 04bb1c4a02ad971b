"""Downloads the Debian packages of packages.tsv and unpacks them.

    python3 training/fetch_packages.py --out DIR

DIR/debs keeps the archives, DIR/root/PACKAGE what `dpkg-deb -x` unpacks. Nothing is installed and no
package's scripts run. A package that the mirror no longer has is reported and left out: DIR/versions.tsv
lists what was taken, so that the model card can name it.
"""

import argparse
import csv
import pathlib
import subprocess
import sys


def read_packages(path: pathlib.Path) -> list[tuple[str, str, float]]:
    """Returns (package, licence, cap in MiB) of every line of packages.tsv."""
    rows = []
    with path.open(encoding="utf-8") as lines:
        for row in csv.reader((line for line in lines if not line.startswith("#")), delimiter="\t"):
            if row:
                rows.append((row[0], row[1], float(row[2])))
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument(
        "--packages", type=pathlib.Path, default=pathlib.Path(__file__).with_name("packages.tsv")
    )
    arguments = parser.parse_args()
    debs = arguments.out / "debs"
    debs.mkdir(parents=True, exist_ok=True)
    taken = []
    for package, licence, _ in read_packages(arguments.packages):
        found = sorted(debs.glob(f"{package}_*.deb"))
        if not found:
            subprocess.run(
                ["apt-get", "download", "-qq", package], cwd=debs, check=False, capture_output=True
            )
            found = sorted(debs.glob(f"{package}_*.deb"))
        if not found:
            print(f"left out, not on the mirror: {package}", file=sys.stderr)
            continue
        target = arguments.out / "root" / package
        if not target.exists():
            target.mkdir(parents=True)
            subprocess.run(["dpkg-deb", "-x", str(found[-1]), str(target)], check=True)
        taken.append((package, found[-1].name.split("_")[1], licence))
    with (arguments.out / "versions.tsv").open("w", encoding="utf-8") as out:
        out.writelines("\t".join(row) + "\n" for row in taken)
    print(f"{len(taken)} packages under {arguments.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
