"""Accuracy on whole expressions, by depth."""

from collections import Counter, defaultdict

import torch

from expressions import depth_of, value_of
from levels import batch_of


@torch.no_grad()
def answers(reckoner, expressions, rows=500):
    """The value the network gives each expression, and the lead of its logit over the second best."""
    reckoner.eval()
    given = []
    for first in range(0, len(expressions), rows):
        batch = batch_of(expressions[first : first + rows])
        best = reckoner(batch)[batch.roots].topk(2, dim=1)
        gaps = best.values[:, 0] - best.values[:, 1]
        given += zip(best.indices[:, 0].tolist(), gaps.tolist())
    return given


def accuracy(given, expressions):
    """Returns (share of expressions with the right value, the same by depth)."""
    right = defaultdict(list)
    for (answer, _), one in zip(given, expressions):
        right[depth_of(one)].append(answer == value_of(one))
    every = [one for some in right.values() for one in some]
    return sum(every) / len(every), {depth: sum(some) / len(some) for depth, some in sorted(right.items())}


def commonest(expressions):
    """What always saying the commonest value would reach."""
    return Counter(map(value_of, expressions)).most_common(1)[0][1] / len(expressions)
