"""Nodes of equal height of many trees, to be computed together."""

from dataclasses import dataclass

import torch

from expressions import SYMBOLS, tree_of


@dataclass
class Level:
    """Places are rows of the states that are still to be read: first one per symbol, then nodes."""

    left: torch.Tensor
    right: torch.Tensor
    # Places that are still to be read after this level.
    kept: torch.Tensor
    # Which of the new nodes close an expression.
    closed: torch.Tensor


@dataclass
class Batch:
    levels: list
    # Of every expression inside the given ones, in the order of the levels.
    values: torch.Tensor
    # By given expression: its own place among the values.
    roots: torch.Tensor


def batch_of(expressions):
    trees = [tree_of(one) for one in expressions]
    by_height = []
    for number, tree in enumerate(trees):
        heights = [0] * len(tree.leaves)
        for node, (left, right) in enumerate(tree.children):
            height = 1 + max(heights[left], heights[right])
            heights.append(height)
            while len(by_height) < height:
                by_height.append([])
            by_height[height - 1].append((number, len(tree.leaves) + node))
    values_of = [{len(tree.leaves) + node: value for node, value in tree.closed} for tree in trees]
    waiting, levels, values, roots = [], [], [], [0] * len(trees)
    for nodes in by_height:
        place = {node: len(SYMBOLS) + at for at, node in enumerate(waiting)}
        pairs, closed = [], []
        for at, (number, node) in enumerate(nodes):
            tree = trees[number]
            children = tree.children[node - len(tree.leaves)]
            pairs.append([tree.leaves[one] if one < len(tree.leaves) else place.pop((number, one)) for one in children])
            if node in values_of[number]:
                closed.append(at)
                if node == root_of(tree):
                    roots[number] = len(values)
                values.append(values_of[number][node])
        left, right = torch.tensor(pairs).T
        # Nobody reads a root.
        place = {(number, node): at for (number, node), at in place.items() if node != root_of(trees[number])}
        kept = torch.tensor([*range(len(SYMBOLS)), *place.values()])
        levels.append(Level(left, right, kept, torch.tensor(closed, dtype=torch.long)))
        waiting = [*place, *nodes]
    return Batch(levels, torch.tensor(values), torch.tensor(roots))


def root_of(tree):
    return len(tree.leaves) + len(tree.children) - 1
