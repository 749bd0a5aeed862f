"""Writes golden.json: batch sizes and waits of MAP buffers, by scipy. Run: python test/planner/golden.py > test/planner/golden.json"""

import json

import numpy as np
from scipy.linalg import expm
from scipy.stats import gamma, poisson

PROCESSES = {
    "nys": ([[-119.590, 0], [0, -155.043]], [[31.902, 87.688], [38.799, 116.244]]),
    "twitter": ([[-59.207, 0], [0, -91.236]], [[20.741, 38.466], [27.937, 63.299]]),
    "mmpp": ([[-102, 2], [1, -11]], [[100, 0], [0, 10]]),
}


def generator(d0, d1, levels):
    """Requests collected 1..levels, times phases; the last level absorbs and keeps its phase."""
    n = len(d0)
    q = np.zeros((levels * n, levels * n))
    for level in range(levels - 1):
        at = level * n
        q[at : at + n, at : at + n] = d0
        q[at : at + n, at + n : at + 2 * n] = d1
    return q


def paper_sizes(d0, d1, most, seconds):
    d0, d1 = np.array(d0), np.array(d1)
    n = len(d0)
    a = np.vstack([(d0 + d1).T, np.ones(n)])
    pi = np.linalg.lstsq(a, np.r_[np.zeros(n), 1], rcond=None)[0]
    r = d1.sum(axis=1)
    g = pi * r / np.minimum(most, r * seconds + 1)
    g /= g.sum()
    start = np.r_[g, np.zeros((most - 1) * n)]
    return (start @ expm(generator(d0, d1, most) * seconds)).reshape(most, n).sum(axis=1).tolist()


def exact_sizes(d0, d1, most, seconds):
    """From the phases in which batches begin: the fixed point of the way from one batch to the next."""
    d0, d1 = np.array(d0), np.array(d1)
    n = len(d0)
    e = expm(generator(d0, d1, most) * seconds)
    ends = np.array([[e[i, j::n].sum() for j in range(n)] for i in range(n)])
    step = ends @ np.linalg.inv(-d0) @ d1
    a = np.vstack([(step - np.eye(n)).T, np.ones(n)])
    g = np.linalg.lstsq(a, np.r_[np.zeros(n), 1], rcond=None)[0]
    start = np.r_[g, np.zeros((most - 1) * n)]
    return (start @ e).reshape(most, n).sum(axis=1).tolist()


def statistics(d0, d1):
    d0, d1 = np.array(d0), np.array(d1)
    m = np.linalg.inv(-d0)
    p = m @ d1
    n = len(d0)
    phi = np.linalg.lstsq(np.vstack([(p - np.eye(n)).T, np.ones(n)]), np.r_[np.zeros(n), 1], rcond=None)[0]
    one = np.ones(n)
    mean = phi @ m @ one
    second = 2 * phi @ m @ m @ one
    lag = phi @ m @ p @ m @ one
    var = second - mean**2
    return {"perSecond": 1 / mean, "scv": var / mean**2, "lag1": (lag - mean**2) / var}


def poisson_waits(rate, most, seconds):
    """P(wait <= w) of all requests of a Poisson buffer, closed form: Erlang waits, capped by the timeout."""
    p = [poisson.pmf(n - 1, rate * seconds) for n in range(1, most)]
    full = 1 - sum(p)
    mean = sum((n + 1) * share for n, share in enumerate(p)) + most * full

    def cdf(w):
        total = 0.0
        for n, share in enumerate(p, 1):
            total += share * ((n - 1) * w / seconds + (1 if w >= seconds else 0))
        # A full batch fills at s <= T; given s the other most - 2 are uniform on it.
        grid = np.linspace(0, seconds, 20001)[1:]
        density = gamma.pdf(grid, most - 1, scale=1 / rate)
        count = np.where(grid <= w, most, 1 + (most - 2) * np.minimum(1, w / grid))
        total += np.sum((density[1:] * count[1:] + density[:-1] * count[:-1]) / 2) * (grid[1] - grid[0]) + density[0] * count[0] * grid[0] / 2
        return total / mean

    return [[w, cdf(w)] for w in np.linspace(0.05, 0.95, 10) * seconds]


out = {"statistics": {}, "paper": [], "exact": [], "poissonWaits": []}
for name, (d0, d1) in PROCESSES.items():
    out["statistics"][name] = {"d0": d0, "d1": d1, **statistics(d0, d1)}
    for most, seconds in [(2, 0.05), (8, 0.05), (8, 0.2), (20, 0.1)]:
        case = {"process": name, "maxBatch": most, "timeoutMs": seconds * 1000}
        out["paper"].append({**case, "sizes": paper_sizes(d0, d1, most, seconds)})
        out["exact"].append({**case, "sizes": exact_sizes(d0, d1, most, seconds)})
for rate, most, seconds in [(50, 4, 0.1), (50, 8, 0.1), (200, 20, 0.12), (20, 2, 0.05)]:
    out["poissonWaits"].append({"rate": rate, "maxBatch": most, "timeoutMs": seconds * 1000, "cdf": poisson_waits(rate, most, seconds)})
print(json.dumps(out))
