"""Bits per character, and the greedy continuation of a prompt."""

import math

import torch
from torch.nn.functional import cross_entropy

IGNORED = -100


def tensors_of(glosses, vocabulary):
    """Returns symbols read and symbols wanted, both [T, rows]; a gloss is start, text, stop."""
    number = {symbol: index for index, symbol in enumerate(vocabulary["symbols"])}
    longest = max(map(len, glosses))
    texts = [[number[symbol] for symbol in gloss] for gloss in glosses]
    read = [[vocabulary["start"], *text] + [vocabulary["stop"]] * (longest - len(text)) for text in texts]
    wanted = [[*text, vocabulary["stop"]] + [IGNORED] * (longest - len(text)) for text in texts]
    return torch.tensor(read).T.contiguous(), torch.tensor(wanted).T.contiguous()


@torch.no_grad()
def bits_per_character(writer, glosses, vocabulary, rows=64):
    """Over all glosses together, each from a zero state; the stop counts as a character."""
    writer.eval()
    glosses = sorted(glosses, key=len)
    nats, characters = 0.0, 0
    for first in range(0, len(glosses), rows):
        read, wanted = tensors_of(glosses[first : first + rows], vocabulary)
        logits = writer(read)[0].flatten(0, 1)
        nats += cross_entropy(logits, wanted.flatten(), ignore_index=IGNORED, reduction="sum").item()
        characters += int((wanted != IGNORED).sum())
    return nats / characters / math.log(2)


@torch.no_grad()
def continuation(writer, prompt, vocabulary, characters):
    """Returns (text, smallest gap between best and second logit); shorter where the model stops."""
    writer.eval()
    read = [vocabulary["start"], *(vocabulary["symbols"].index(symbol) for symbol in prompt)]
    logits, state = writer(torch.tensor(read)[:, None])
    text, smallest_gap = "", math.inf
    while len(text) < characters:
        best = logits[-1, 0].topk(2)
        smallest_gap = min(smallest_gap, float(best.values[0] - best.values[1]))
        symbol = int(best.indices[0])
        if symbol == vocabulary["stop"]:
            break
        text += vocabulary["symbols"][symbol]
        logits, state = writer(torch.tensor([[symbol]]), state)
    return text, smallest_gap
