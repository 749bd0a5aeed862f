"""Writes encoder-decoders with attention as PyTorch has them: decoders exported to ONNX, encoders as safetensors, and what they say.

    pip install torch onnx safetensors
    python make_attention.py
"""

import base64
import io
import json
import warnings
from pathlib import Path

import torch
from safetensors.torch import save
from torch import nn

EMBEDDING, HIDDEN, LETTERS, WORDS = 4, 6, 9, 8
MOST, MAX_STEPS = 7, 6
START, STOP = 1, 0
# A choice must not hang on the last bits.
SMALLEST_GAP = 0.01


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(LETTERS, EMBEDDING)
        self.lstm = nn.LSTM(EMBEDDING, HIDDEN)

    def forward(self, letters):
        return self.lstm(self.embedding(letters))

    def stored(self, prefix):
        names = {name: name.replace("lstm.", "").removesuffix("_l0") for name in self.state_dict()}
        return {prefix + names[name]: tensor.contiguous() for name, tensor in self.state_dict().items()}


class Bahdanau(nn.Module):
    """Bahdanau et al. 2015: the state before the step asks, by an additive score; the context goes into the cell."""

    states = ["h", "c"]

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(WORDS, EMBEDDING)
        self.query = nn.Linear(HIDDEN, HIDDEN, bias=False)
        self.keys = nn.Linear(2 * HIDDEN, HIDDEN)
        self.score = nn.Linear(HIDDEN, 1, bias=False)
        self.cell = nn.LSTMCell(EMBEDDING + 2 * HIDDEN, HIDDEN)
        self.head = nn.Linear(3 * HIDDEN, WORDS)

    def forward(self, token, memory, mask, h, c):
        scores = self.score(torch.tanh(self.query(h)[:, None] + self.keys(memory)))[..., 0]
        shares = scores.masked_fill(mask == 0, -1e9).softmax(dim=1)
        context = (shares[:, None] @ memory)[:, 0]
        h, c = self.cell(torch.cat([self.embedding(token), context], dim=1), (h, c))
        return self.head(torch.cat([h, context], dim=1)), h, c


class Luong(nn.Module):
    """Luong et al. 2015: the state after the step asks, by a product; what comes of it is fed into the next step."""

    states = ["h", "c", "fed"]

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(WORDS, EMBEDDING)
        self.cell = nn.LSTMCell(EMBEDDING + HIDDEN, HIDDEN)
        self.query = nn.Linear(HIDDEN, 2 * HIDDEN, bias=False)
        self.combine = nn.Linear(3 * HIDDEN, HIDDEN, bias=False)
        self.head = nn.Linear(HIDDEN, WORDS)

    def forward(self, token, memory, mask, h, c, fed):
        h, c = self.cell(torch.cat([self.embedding(token), fed], dim=1), (h, c))
        scores = (memory @ self.query(h)[..., None])[..., 0]
        shares = scores.masked_fill(mask == 0, -1e9).softmax(dim=1)
        context = (shares[:, None] @ memory)[:, 0]
        fed = torch.tanh(self.combine(torch.cat([context, h], dim=1)))
        return self.head(fed), h, c, fed


def exported(decoder):
    names = ["token", "memory", "mask", *decoder.states]
    outputs = ["logits", *(f"next_{state}" for state in decoder.states)]
    given = (torch.zeros(2, dtype=torch.int32), torch.randn(2, MOST, 2 * HIDDEN), torch.ones(2, MOST))
    given += tuple(torch.randn(2, HIDDEN) for _ in decoder.states)
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            decoder,
            given,
            file,
            dynamo=False,
            opset_version=17,
            input_names=names,
            output_names=outputs,
            dynamic_axes={name: {0: "rows"} for name in [*names, *outputs]},
        )
    return file.getvalue()


def said(back, ahead, decoder, letters):
    """Alone and without padding: the memory is as long as the source."""
    source = torch.tensor(letters)
    backwards, (h, c) = back(source.flip(0))
    forwards, _ = ahead(source)
    memory = torch.cat([backwards.flip(0), forwards], dim=1)[None]
    states = (h, c, *(torch.zeros(1, HIDDEN) for _ in decoder.states[2:]))
    token, tokens = START, []
    while len(tokens) < MAX_STEPS:
        logits, *states = decoder(torch.tensor([token], dtype=torch.int32), memory, torch.ones(1, len(letters)), *states)
        best = logits[0].topk(2)
        if best.values[0] - best.values[1] < SMALLEST_GAP:
            return None
        token = int(best.indices[0])
        if token == STOP:
            break
        tokens.append(token)
    return tokens


def case(kind):
    back, ahead, decoder = Encoder(), Encoder(), kind()
    for module in (back, ahead, decoder):
        for parameter in module.parameters():
            nn.init.normal_(parameter, std=1.2)
    sources = [torch.randint(LETTERS, (1 + i % MOST,)).tolist() for i in range(40)]
    answers = [(source, said(back, ahead, decoder, source)) for source in sources]
    return {
        "name": kind.__name__,
        "about": kind.__doc__,
        "encoders": base64.b64encode(save({**back.stored("back."), **ahead.stored("ahead.")})).decode(),
        "decoder": base64.b64encode(exported(decoder)).decode(),
        "states": decoder.states,
        "answers": [{"source": source, "tokens": tokens} for source, tokens in answers if tokens is not None],
    }


def main():
    torch.manual_seed(5)
    with torch.no_grad():
        cases = [case(Bahdanau), case(Luong)]
    sizes = {"hidden": HIDDEN, "most": MOST, "words": WORDS, "start": START, "stop": STOP, "maxSteps": MAX_STEPS}
    text = json.dumps({"sizes": sizes, "cases": cases})
    (Path(__file__).parent / "fixtures" / "attention.json").write_text(text + "\n", encoding="utf-8")
    for one in cases:
        print(one["name"], len(one["answers"]), "answers,", len({str(answer["tokens"]) for answer in one["answers"]}), "distinct")


if __name__ == "__main__":
    main()
