"""Logs of long runs with a plausible course, the same for the same seed: for tests and benchmark of the page."""

import math
import random
from pathlib import Path

from dawn_script import Script

STEPS = 50  # of an epoch; every tenth is logged
PHASES = (0.45, 0.9)  # shares of the epochs after which the images grow


class LongScript(Script):
    """Three phases of 128, 224 and 288 px; the loader limits the first; accuracy rises with noise."""

    def __init__(self, folder: Path, epochs: int, seed: int, **start: object):
        self.random, self.epochs = random.Random(seed), epochs
        self.pace = self.random.uniform(0.9, 1.1)
        starts = {"run_id": f"{seed:032x}", "seed": seed, "total_epochs": epochs, "config": {"seed": seed, "ema": 0.99}}
        super().__init__(folder, **{"recipe": "imagenet-long", "model": "resnet50", **starts, **start})
        self.sizes = [(128, 224, 288)[sum(epoch >= share * epochs for share in PHASES)] for epoch in range(epochs)]
        self.now = 0  # epoch that is trained

    def train(self, share: float = 1.0) -> None:
        size = self.sizes[self.now]
        for step in range(1, STEPS + 1):
            wait = self.random.uniform(0.5, 1.5) * (0.02 if size == 128 else 0.004)
            work = self.pace * self.random.uniform(0.98, 1.02) * size**2 * 8e-6
            self.pass_in("data", wait)
            self.pass_in("train", work)
            if step % 10 == 0:
                self.step(step, wait, work)
        self.now += 1

    def step(self, step: int, wait: float, work: float) -> None:
        loss = 1.2 + 5.8 * math.exp(-4 * (self.now + step / STEPS) / self.epochs) + self.random.gauss(0, 0.05)
        times = {
            "times/step": 1000 * (wait + work),
            "times/data": 1000 * wait,
            "losses/xent": loss,
            "sizes/batch_total": 1000,
        }
        self.log.write(
            "step", self.attempt, epoch=self.now, step=step, images_seen=50000 * self.now + 1000 * step, **times
        )

    def ramps(self, epoch: int) -> dict:
        rise = 0.15 * self.epochs
        lr = [
            2 * (p / rise if p < rise else (self.epochs - p) / (self.epochs - rise))
            for p in (epoch, epoch + 1 - 1 / STEPS)
        ]
        return {"lr": lr, "momentum": [0.9, 0.9], "train_loss": 1.2 + 5.8 * math.exp(-4 * (epoch + 1) / self.epochs)}


def long_run(folder: Path, epochs: int = 100, seed: int = 0, best: float = 95.0, **start: object) -> Path:
    """A whole run; `best`: percent of top-1 at the end, about which the seeds vary. Returns the folder."""
    script = LongScript(folder, epochs, seed, **start)
    best += script.random.gauss(0, 0.3)
    reached = False
    for epoch in range(epochs):
        percent = best - 65 * math.exp(-4.5 * (epoch + 1) / epochs) + script.random.gauss(0, 0.25)
        correct = min(9990, round(100 * percent))
        reached |= correct >= 9400
        script.epoch(epoch, (correct, min(10000, correct + 400)))
    script.stop("target_reached" if reached else "finished_without_target")
    return folder
