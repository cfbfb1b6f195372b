"""Measure what the gate's verdicts are worth: how often each kind of check errs, and what it finds."""

import argparse
import logging
from collections.abc import Callable, Iterable, Mapping

from benchmarks import _gate_latency, _gate_loadgen, _gate_quality, _gate_served
from benchmarks._table import Table, show

SECTIONS: Mapping[str, Callable[[], Iterable[Table]]] = {
    "quality": _gate_quality.tables,
    "latency": _gate_latency.tables,
    "loadgen": _gate_loadgen.tables,
    "served": _gate_served.tables,
}


def main() -> None:
    """Run the sections, print their tables and write all figures."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", default=[*SECTIONS], choices=[*SECTIONS], metavar="SECTION")
    figures: dict[str, object] = {}
    for name in parser.parse_args().only:
        for table in SECTIONS[name]():
            figures |= table.figures
            show("gate", title=table.title, columns=table.columns, rows=table.rows, figures=figures)


if __name__ == "__main__":
    main()
