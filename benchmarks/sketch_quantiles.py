"""The sketch: ns per insert, us per quantile query, and the largest error against exact order statistics.

Run: python benchmarks/sketch_quantiles.py [--values 10000000]
"""

from __future__ import annotations

import argparse
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from native.sketch import Sketch

QUANTILES = np.array([0.5, 0.9, 0.95, 0.99, 0.999, 0.9999, 1.0])
REPEATS = 7


def best_ns(work: Callable[[], object]) -> float:
    """Shortest of some runs: the one least disturbed."""
    times_ns = []
    for _ in range(REPEATS):
        start_ns = time.perf_counter_ns()
        work()
        times_ns.append(time.perf_counter_ns() - start_ns)
    return min(times_ns)


def distributions(n: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    return {
        "constant": np.full(n, 50_000.0),
        "exponential, mean 20 us": rng.exponential(2e4, n),
        "lognormal, 3 decades": rng.lognormal(10.8, 1.0, n),
        "bimodal, 5 us and 4 ms": np.where(rng.random(n) < 0.95, rng.normal(5e3, 500, n), rng.normal(4e6, 1e5, n)),
        "pareto, alpha 1.1": np.minimum((1 + rng.pareto(1.1, n)) * 1e3, 1e18),
        "uniform, all octaves": 2 ** (rng.random(n) * 60),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--values", type=int, default=10_000_000)
    n = parser.parse_args().values

    print(f"{time.strftime('%Y-%m-%d')}  {platform.release()}  {n} values, best of {REPEATS}")
    print(f"{'distribution':26} {'insert ns':>10} {'query us':>10} {'error %':>10}")
    for name, reals in distributions(n).items():
        values_ns = reals.astype(np.uint64)
        sketch = Sketch()
        insert_ns = best_ns(lambda sketch=sketch, values=values_ns: sketch.insert_many(values)) / n
        query_ns = best_ns(lambda sketch=sketch: sketch.quantiles(QUANTILES))
        # ceil(q * n) - 1, as the sketch ranks
        true_ns = np.sort(values_ns)[np.maximum(np.ceil(QUANTILES * n), 1).astype(np.int64) - 1].astype(np.float64)
        once = Sketch()
        once.insert_many(values_ns)
        error_pct = 100 * np.max(np.abs(once.quantiles(QUANTILES) / true_ns - 1))
        print(f"{name:26} {insert_ns:10.2f} {query_ns / 1000:10.1f} {error_pct:10.3f}")


if __name__ == "__main__":
    main()
