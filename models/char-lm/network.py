"""The language model: embedding, one LSTM layer, linear head."""

import torch
from torch import nn


class Writer(nn.Module):
    """Reads a character, predicts the next. Time is the first axis."""

    def __init__(self, symbols, embedding, hidden, dropout=0.0):
        super().__init__()
        self.embedding = nn.Embedding(symbols, embedding)
        self.lstm = nn.LSTM(embedding, hidden)
        self.head = nn.Linear(hidden, symbols)
        self.dropout = nn.Dropout(dropout)
        with torch.no_grad():
            # A forget gate that starts open learns from farther back at once.
            self.lstm.bias_ih_l0[hidden : 2 * hidden] = 1.0

    def forward(self, symbols, state=None):
        """symbols [T, rows] -> (logits [T, rows, symbols], state)."""
        outputs, state = self.lstm(self.embedding(symbols), state)
        return self.head(self.dropout(outputs)), state


def stored_name(name):
    """`lstm.weight_ih_l0` is stored as `weight_ih`: there is only one layer."""
    return name.removeprefix("lstm.").removesuffix("_l0")
