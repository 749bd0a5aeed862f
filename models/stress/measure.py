"""Words and vowels with the right stress, against what one would say without a model."""

from collections import Counter, defaultdict

import torch

# Endings of plurals, genitives and past forms.
ENDINGS = ("S", "Z", "T", "D")


@torch.no_grad()
def mark(marker, words, vocabulary, rows=512):
    """Word -> its marked phonemes; and word -> the smallest lead of a choice over the second best."""
    number = {symbol: at for at, symbol in enumerate(vocabulary["input"])}
    by_length = defaultdict(list)
    for phonemes in words:
        by_length[len(phonemes)].append(phonemes)
    marker.eval()
    said, leads = {}, {}
    for same in by_length.values():
        for first in range(0, len(same), rows):
            some = same[first : first + rows]
            logits = marker(torch.tensor([[number[one] for one in phonemes] for phonemes in some]).T)
            best = logits.topk(2, dim=2)
            lead = (best.values[..., 0] - best.values[..., 1]).amin(0)
            leads |= zip(some, lead.tolist())
            for phonemes, tags in zip(some, best.indices[..., 0].T.tolist()):
                said[phonemes] = tuple(vocabulary["output"][tag] for tag in tags)
    return said, leads


def shares(said, words):
    """(words that match one of their ways, vowels that match the way that comes nearest)."""
    right = vowels = matched = 0
    for phonemes, ways in words:
        marked = said[phonemes]
        right += marked in ways
        vowels += sum(symbol[-1].isdigit() for symbol in ways[0])
        matched += max(sum(a == b for a, b in zip(marked, way) if b[-1].isdigit()) for way in ways)
    return right / len(words), matched / vowels


def without_relatives(words, training):
    """Those that no ending turns into a word of training, or a word of training into them."""
    known = {phonemes for phonemes, _ in training}
    stems = known | {phonemes[:-1] for phonemes in known if phonemes[-1] in ENDINGS}
    return [one for one in words if one[0] not in stems and not (one[0][-1] in ENDINGS and one[0][:-1] in known)]


def on_first_vowel(words):
    """Main stress on the first vowel, none on the others."""
    said = {}
    for phonemes, ways in words:
        rest = iter("1" + "0" * len(phonemes))
        said[phonemes] = tuple(plain + next(rest) if symbol[-1].isdigit() else plain for plain, symbol in zip(phonemes, ways[0]))
    return said


def by_vowel(words, training):
    """Of every vowel its commonest stress."""
    counts = defaultdict(Counter)
    for phonemes, ways in training:
        for plain, symbol in zip(phonemes, ways[0]):
            counts[plain][symbol] += 1
    return {phonemes: tuple(counts[plain].most_common(1)[0][0] for plain in phonemes) for phonemes, _ in words}
