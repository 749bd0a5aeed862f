"""Errors over the held-out year, against what one would say without a model."""

import math

import torch

from weather import HELD_OUT_YEAR, LAST_TRAINING_YEAR


@torch.no_grad()
def errors(forecaster, cities):
    """City -> {who says it: mean absolute errors of the highest and the lowest temperature, in degrees Celsius}."""
    weights = linear_fit(cities)
    found = {}
    for name, (days, years) in cities.items():
        # The day itself is not seen: days before it are, those of earlier years too.
        held_out = (years[1:] == HELD_OUT_YEAR).nonzero()[:, 0]
        truth = days[1:, :2][held_out]
        said = {
            "the model": forecaster(days[None])[0][:-1][held_out],
            "a linear fit": (features(days) @ weights)[held_out - 1],
            "as today": days[:-1, :2][held_out],
            "as usual on that day of the year": usual(days, years, held_out + 1),
        }
        found[name] = {who: (values - truth).abs().mean(0).tolist() for who, values in said.items()}
    return found


def linear_fit(cities):
    """Least squares from a day and the day before it to the temperatures of the next, over the training years of all cities."""
    known = [days[years <= LAST_TRAINING_YEAR] for days, years in cities.values()]
    given = torch.cat([features(days)[:-1] for days in known])
    wanted = torch.cat([days[2:, :2] for days in known])
    return torch.linalg.lstsq(given, wanted).solution


def features(days):
    """Of every day but the first: its values, those of the day before, and 1."""
    return torch.cat([days[1:], days[:-1], torch.ones(len(days) - 1, 1)], dim=1)


def usual(days, years, wanted):
    """The mean of the training years within a week of the day of the year."""
    past = years <= LAST_TRAINING_YEAR
    angle = torch.atan2(days[:, 4], days[:, 5])
    means = []
    for day in wanted.tolist():
        distance = torch.remainder(angle[past] - angle[day] + math.pi, 2 * math.pi) - math.pi
        means.append(days[past][distance.abs() < 2 * math.pi * 7.5 / 365.25, :2].mean(0))
    return torch.stack(means)
