"""Trains the forecaster and writes its ONNX graph, fixture and example.

    python train.py --weather package/data/weather.csv --out .
"""

import argparse
import json
from pathlib import Path

import torch
from torch import nn

from measure import errors
from weather import INPUTS, LAST_TRAINING_YEAR, read_weather

WINDOW = 90
# Six years of days are few: a model without noise learns them by heart.
NOISE = 0.3


class Forecaster(nn.Module):
    """Days in, for each the temperatures of the day after out: two GRU layers that add to what today's were."""

    def __init__(self, mean, scale, hidden):
        super().__init__()
        # Days are scaled by a layer of the graph, so that callers give degrees, millimetres and metres per second.
        self.scaling = nn.Linear(len(INPUTS), len(INPUTS))
        with torch.no_grad():
            self.scaling.weight.copy_(torch.diag(1 / scale))
            self.scaling.bias.copy_(-mean / scale)
        self.scaling.requires_grad_(False)
        self.gru = nn.GRU(len(INPUTS), hidden, num_layers=2, dropout=0.4, batch_first=True)
        self.head = nn.Linear(hidden, 2)
        # What is learned is how tomorrow differs from today.
        with torch.no_grad():
            self.head.weight.mul_(0.1)
            self.head.bias.zero_()

    def forward(self, days):
        scaled = self.scaling(days)
        if self.training:
            scaled = scaled + NOISE * torch.randn_like(scaled)
        return days[..., :2] + self.head(self.gru(scaled)[0])


def main():
    options = read_options()
    torch.manual_seed(options.seed)
    torch.set_num_threads(1)
    cities = read_weather(options.weather)
    known = [days[years <= LAST_TRAINING_YEAR] for days, years in cities.values()]
    every = torch.cat(known)
    forecaster = Forecaster(every.mean(0), every.std(0), options.hidden)
    train(forecaster, known, options.steps)
    forecaster.eval().requires_grad_(False)
    out = Path(options.out)
    export(forecaster, out / "forecaster.onnx")
    for city, by in errors(forecaster, cities).items():
        for who, (highest, lowest) in by.items():
            print(f"{city}, {who}: {highest:.2f} (highest), {lowest:.2f} (lowest) degrees")
    days = cities["Seattle"][0]
    write_json(out / "expected.json", {"days": rounded(days[:40]), "tomorrow": forecaster(days[None, :40])[0].tolist()})
    write_json(out / "days.json", {"days": rounded(days[-10:])})


def read_options():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--weather", required=True, help="weather.csv of npm package vega-datasets")
    parser.add_argument("--out", required=True, help="folder for the graph, the fixture and the example")
    parser.add_argument("--hidden", type=int, default=24)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args()


def train(forecaster, known, steps):
    trained = [one for one in forecaster.parameters() if one.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=3e-3, weight_decay=0.1)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps)
    for step in range(steps):
        windows = []
        for _ in range(32):
            days = known[torch.randint(len(known), ())]
            first = torch.randint(len(days) - WINDOW, ())
            windows.append(days[first : first + WINDOW])
        batch = torch.stack(windows)
        said = forecaster(batch[:, :-1])
        # The first days of a window have no past to look at.
        loss = (said - batch[:, 1:, :2])[:, 10:].abs().mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        schedule.step()
        if step % 100 == 99:
            print(f"step {step + 1} error {loss.item():.3f} degrees", flush=True)


def export(forecaster, path):
    example = torch.zeros(2, 5, len(INPUTS))
    axes = {0: "batch", 1: "days"}
    torch.onnx.export(
        forecaster,
        (example,),
        path,
        dynamo=False,
        opset_version=17,
        input_names=["days"],
        output_names=["tomorrow"],
        dynamic_axes={"days": axes, "tomorrow": axes},
    )


def rounded(days):
    return [[round(value, 6) for value in day] for day in days.tolist()]


def write_json(path, value):
    path.write_text(json.dumps(value) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
