"""The encoder-decoder: two LSTM layers that share nothing but a state."""

import torch
from torch import nn

# No pronunciation in the dictionary comes near; a runaway decoder stops here.
MAX_PHONEMES = 40


class Reader(nn.Module):
    """An embedding followed by one LSTM layer. Time is the first axis."""

    def __init__(self, symbols, embedding, hidden, dropout):
        super().__init__()
        self.embedding = nn.Embedding(symbols, embedding)
        self.lstm = nn.LSTM(embedding, hidden)
        self.dropout = nn.Dropout(dropout)
        with torch.no_grad():
            # A forget gate that starts open lets the first epochs learn across the whole word.
            self.lstm.bias_ih_l0[hidden : 2 * hidden] = 1.0

    def forward(self, symbols, state=None):
        return self.lstm(self.dropout(self.embedding(symbols)), state)


class Decoder(Reader):
    """A reader of phonemes that also predicts the next one."""

    def __init__(self, symbols, embedding, hidden, dropout):
        super().__init__(symbols, embedding, hidden, dropout)
        self.head = nn.Linear(hidden, symbols)

    def forward(self, symbols, state=None):
        outputs, state = super().forward(symbols, state)
        return self.head(self.dropout(outputs)), state


class Speller(nn.Module):
    """Letters in, phonemes out. The encoder's last state is the decoder's first."""

    def __init__(self, letters, phonemes, embedding, hidden, dropout=0.0):
        super().__init__()
        self.encoder = Reader(letters, embedding, hidden, dropout)
        self.decoder = Decoder(phonemes, embedding, hidden, dropout)

    def forward(self, letters, phonemes):
        """letters [L, rows] in reading order, phonemes [P, rows] -> logits [P, rows, symbols]."""
        return self.decoder(phonemes, self.encode(letters))[0]

    def encode(self, letters):
        # Reversed, the first letters are the freshest when the first phonemes are due.
        return self.encoder(letters.flip(0))[1]

    @torch.no_grad()
    def greedy(self, letters, start, stop):
        """Returns (one list of phoneme numbers per row, smallest gap between best and second)."""
        rows = letters.shape[1]
        state = self.encode(letters)
        symbol = torch.full((1, rows), start)
        spoken = [[] for _ in range(rows)]
        gaps = torch.full((rows,), float("inf"))
        speaking = torch.ones(rows, dtype=torch.bool)
        for _ in range(MAX_PHONEMES):
            logits, state = self.decoder(symbol, state)
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


def stored_name(name):
    """`encoder.lstm.weight_ih_l0` is stored as `encoder.weight_ih`: there is only one layer."""
    return name.replace("lstm.", "").removesuffix("_l0")
