"""What the network says, greedily and by beam search, and how far that is from the dictionary."""

from collections import defaultdict

import torch

from network import MAX_PHONEMES


def pronounce(speller, words, vocabulary, rows=512):
    """Returns word -> (phonemes, smallest gap between best and second logit on the way)."""
    letter_number = {letter: number for number, letter in enumerate(vocabulary["input"])}
    by_length = defaultdict(list)
    for word in words:
        by_length[len(word)].append(word)
    speller.eval()
    said = {}
    # Words of one length need no padding, so no mask either.
    for same_length in by_length.values():
        for first in range(0, len(same_length), rows):
            some = same_length[first : first + rows]
            letters = torch.tensor([[letter_number[letter] for letter in word] for word in some]).T
            spoken, gaps = speller.greedy(letters, vocabulary["start"], vocabulary["stop"])
            for word, numbers, gap in zip(some, spoken, gaps):
                said[word] = [vocabulary["output"][number] for number in numbers], gap
    return said


@torch.no_grad()
def search(speller, word, vocabulary, width):
    """Returns (phonemes, lead of the best sequence over the second) of a beam search whose scores are means over the phonemes and the stop."""
    speller.eval()
    letters = torch.tensor([[vocabulary["input"].index(letter)] for letter in word])
    memory, state = speller.encode(letters)
    live, found = [(0.0, [vocabulary["start"]], state)], []
    for length in range(1, MAX_PHONEMES + 1):
        grown = []
        for score, spoken, state in live:
            logits, state = speller.decoder(torch.tensor([[spoken[-1]]]), memory, state)
            grown += [(score + more, [*spoken, symbol], state) for symbol, more in enumerate(logits[0, 0].log_softmax(0).tolist())]
        # Those that stop take no place from those that go on.
        best = sorted(grown, key=lambda one: -one[0])[: 2 * width]
        found += [(score / length, spoken) for score, spoken, _ in best[:width] if spoken[-1] == vocabulary["stop"]]
        live = [one for one in best if one[1][-1] != vocabulary["stop"]][:width]
        if len(found) >= width:
            break
    (first, spoken), (second, _) = sorted(found, reverse=True)[:2]
    return [vocabulary["output"][number] for number in spoken[1:-1]], first - second


def error_rates(said, words):
    """Returns (phoneme error rate, word error rate) against the closest listed pronunciation."""
    errors = phonemes = wrong = 0
    for word, known in words.items():
        distance, length = min((edit_distance(said[word][0], one), len(one)) for one in known)
        errors += distance
        phonemes += length
        wrong += distance > 0
    return errors / phonemes, wrong / len(words)


def edit_distance(left, right):
    """Insertions, deletions and substitutions that turn one sequence into the other."""
    above = list(range(len(right) + 1))
    for row, one in enumerate(left, 1):
        current = [row]
        for column, other in enumerate(right, 1):
            substituted = above[column - 1] + (one != other)
            current.append(min(substituted, above[column] + 1, current[-1] + 1))
        above = current
    return above[-1]
