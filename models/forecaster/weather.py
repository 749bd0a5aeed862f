"""Reads daily weather and says which year is held out."""

import csv
import math
from collections import defaultdict
from datetime import date

import torch

INPUTS = ["temp_max", "temp_min", "precipitation", "wind", "sin_of_year", "cos_of_year"]
LAST_TRAINING_YEAR, HELD_OUT_YEAR = 2014, 2015


def read_weather(path):
    """City -> (days [count, 6], the year of each)."""
    rows = defaultdict(list)
    with open(path, encoding="utf-8") as file:
        for row in csv.DictReader(file):
            day = date.fromisoformat(row["date"])
            angle = 2 * math.pi * day.timetuple().tm_yday / 365.25
            values = [float(row[name]) for name in INPUTS[:4]] + [math.sin(angle), math.cos(angle)]
            rows[row["location"]].append((day, values))
    cities = {}
    for name, days in rows.items():
        days.sort()
        values = torch.tensor([values for _, values in days])
        cities[name] = values, torch.tensor([day.year for day, _ in days])
    return cities
