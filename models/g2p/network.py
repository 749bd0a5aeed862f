"""The encoder-decoder: an LSTM in each direction over the letters, and one over the phonemes that attends to both."""

import torch
from torch import nn

# No pronunciation in the dictionary comes near; a runaway decoder stops here.
MAX_PHONEMES = 40


class Reader(nn.Module):
    """An embedding, one LSTM layer, and a linear layer that makes of each step what the decoder may look at. Time is the first axis."""

    def __init__(self, symbols, embedding, hidden, memory, dropout):
        super().__init__()
        self.embedding = nn.Embedding(symbols, embedding)
        self.lstm = nn.LSTM(embedding, hidden)
        self.head = nn.Linear(hidden, memory)
        self.dropout = nn.Dropout(dropout)
        open_forget_gate(self.lstm)

    def forward(self, symbols):
        outputs, state = self.lstm(self.dropout(self.embedding(symbols)))
        return self.dropout(self.head(outputs)), state


class Decoder(nn.Module):
    """An LSTM layer over phonemes, then Luong's attention (general score, no input feeding): the state asks, the memory answers."""

    def __init__(self, symbols, embedding, hidden, memory, attended, dropout):
        super().__init__()
        self.embedding = nn.Embedding(symbols, embedding)
        self.lstm = nn.LSTM(embedding, hidden)
        self.query = nn.Linear(hidden, memory, bias=False)
        self.combine = nn.Linear(memory + hidden, attended)
        self.head = nn.Linear(attended, symbols)
        self.dropout = nn.Dropout(dropout)
        open_forget_gate(self.lstm)

    def forward(self, symbols, memory, state, mask=None):
        """symbols [P, rows], memory [rows, L, memory], mask [rows, L] with 1 where there is a letter -> logits [P, rows, symbols], state."""
        outputs, state = self.lstm(self.dropout(self.embedding(symbols)), state)
        asking = self.query(outputs).transpose(0, 1)
        scores = asking @ memory.transpose(1, 2)
        if mask is not None:
            scores = scores.masked_fill(mask[:, None] == 0, float("-inf"))
        context = (scores.softmax(dim=2) @ memory).transpose(0, 1)
        combined = torch.tanh(self.combine(self.dropout(torch.cat((context, outputs), dim=2))))
        return self.head(self.dropout(combined)), state


class Speller(nn.Module):
    """Letters in, phonemes out. The state of the encoder that reads backwards, after the first letter, is the decoder's first."""

    def __init__(self, letters, phonemes, embedding, hidden, memory, attended, dropout=0.0):
        super().__init__()
        self.backward_encoder = Reader(letters, embedding, hidden, memory // 2, dropout)
        self.forward_encoder = Reader(letters, embedding, hidden, memory // 2, dropout)
        self.decoder = Decoder(phonemes, embedding, hidden, memory, attended, dropout)

    def forward(self, letters, phonemes):
        """letters [L, rows] in reading order, phonemes [P, rows] -> logits [P, rows, symbols]."""
        return self.decoder(phonemes, *self.encode(letters))[0]

    def encode(self, letters):
        """Returns the memory [rows, L, memory] and the decoder's first state."""
        backwards, state = self.backward_encoder(letters.flip(0))
        forwards, _ = self.forward_encoder(letters)
        return torch.cat((backwards.flip(0), forwards), dim=2).transpose(0, 1), state

    @torch.no_grad()
    def greedy(self, letters, start, stop):
        """Returns (one list of phoneme numbers per row, smallest gap between best and second)."""
        rows = letters.shape[1]
        memory, state = self.encode(letters)
        symbol = torch.full((1, rows), start)
        spoken = [[] for _ in range(rows)]
        gaps = torch.full((rows,), float("inf"))
        speaking = torch.ones(rows, dtype=torch.bool)
        for _ in range(MAX_PHONEMES):
            logits, state = self.decoder(symbol, memory, state)
            best = logits[0].topk(2, dim=1)
            gap = best.values[:, 0] - best.values[:, 1]
            gaps = torch.where(speaking, torch.minimum(gaps, gap), gaps)
            symbol = best.indices[:, 0][None]
            speaking &= symbol[0] != stop
            if not speaking.any():
                break
            for row in speaking.nonzero()[:, 0].tolist():
                spoken[row].append(int(symbol[0, row]))
        return spoken, gaps.tolist()


def open_forget_gate(lstm):
    """A forget gate that starts open lets the first epochs learn across the whole word."""
    hidden = lstm.hidden_size
    with torch.no_grad():
        lstm.bias_ih_l0[hidden : 2 * hidden] = 1.0


def stored_name(name):
    """`forward_encoder.lstm.weight_ih_l0` is stored as `forward.weight_ih`, `decoder.query.weight` as `decoder.attention.query.weight`."""
    for part in ("query", "combine"):
        name = name.replace(f".{part}.", f".attention.{part}.")
    return name.replace("_encoder", "").replace("lstm.", "").removesuffix("_l0")
