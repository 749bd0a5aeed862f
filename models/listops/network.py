"""A binary tree-LSTM (Tai et al. 2015) whose leaves read symbols, and a linear head."""

import torch
from torch import nn


class Reckoner(nn.Module):
    """Names and shapes of the weights are those that the cells `tree-leaf`, `tree-node` and `linear` take."""

    def __init__(self, symbols, embedding, hidden, classes):
        super().__init__()
        self.embedding = nn.Embedding(symbols, embedding)
        self.leaf = nn.Linear(embedding, 3 * hidden)
        self.node = nn.Linear(2 * hidden, 5 * hidden)
        self.head = nn.Linear(hidden, classes)
        with torch.no_grad():
            # Forget gates that start open let what is deep in a tree be felt at its root.
            self.node.bias[hidden : 3 * hidden] = 1.0

    def forward(self, batch):
        """Logits [closed, classes] of every expression in the batch, in the order of `batch.values`."""
        i, o, u = self.leaf(self.embedding.weight).chunk(3, dim=1)
        c = i.sigmoid() * u.tanh()
        # The states that are still to be read: those of all symbols, then of nodes whose parent is to come.
        h, c = o.sigmoid() * c.tanh(), c
        closed = []
        for level in batch.levels:
            left, right, kept = level.left, level.right, level.kept
            gates = self.node(torch.cat([h[left], h[right]], dim=1))
            i, forget_left, forget_right, o, u = gates.chunk(5, dim=1)
            new_c = i.sigmoid() * u.tanh() + forget_left.sigmoid() * c[left] + forget_right.sigmoid() * c[right]
            new_h = o.sigmoid() * new_c.tanh()
            closed.append(new_h[level.closed])
            h, c = torch.cat([h[kept], new_h]), torch.cat([c[kept], new_c])
        return self.head(torch.cat(closed))


def stored(reckoner):
    """The weights by the names that the cells know."""
    names = {
        "embedding.weight": "leaf.embedding.weight",
        "leaf.weight": "leaf.weight_ih",
        "leaf.bias": "leaf.bias_ih",
        "node.weight": "node.weight_hh",
        "node.bias": "node.bias_hh",
    }
    return {names.get(name, name): tensor for name, tensor in reckoner.state_dict().items()}, names
