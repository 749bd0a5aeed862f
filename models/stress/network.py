"""The tagger: an embedding, two bidirectional GRU layers and a linear head, for every phoneme."""

import torch
from torch import nn


class Marker(nn.Module):
    """Names and shapes of the weights are PyTorch's own."""

    def __init__(self, symbols, embedding, hidden, marked, dropout=0.0):
        super().__init__()
        self.embedding = nn.Embedding(symbols, embedding)
        self.gru = nn.GRU(embedding, hidden, num_layers=2, bidirectional=True, dropout=dropout)
        self.head = nn.Linear(2 * hidden, marked)
        self.dropout = nn.Dropout(dropout)

    def forward(self, phonemes):
        """phonemes [steps, rows], all rows of one length -> logits [steps, rows, marked]."""
        return self.head(self.dropout(self.gru(self.dropout(self.embedding(phonemes)))[0]))
