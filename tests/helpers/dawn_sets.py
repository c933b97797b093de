"""Sets of scripted runs for the tests of board, study and compare: each run's durations and outcome are known."""

from pathlib import Path

from dawn_script import CORRECT, Script, scripted_run

HIT_SECONDS = 48.075  # T_total at the end of epoch 4, where CORRECT reaches 94 %
WHOLE_SECONDS = 60.625  # of a run of five epochs
MISSED = (*CORRECT[:3], (9390, 9950), (9399, 9960))
LATE = (*CORRECT[:3], (9390, 9950), (9402, 9960))  # hits one epoch later
LATE_SECONDS = 60.375


def seed_run(folder: Path, seed: int, correct=CORRECT, outcome: str | None = None, **start) -> Path:
    """A run of one recipe; start: fields of the start line, `config` without its seed."""
    reached = any(c and c[0] >= 9400 for c in correct)
    outcome = outcome or ("target_reached" if reached else "finished_without_target")
    return scripted_run(folder, correct, outcome=outcome, **seed_fields(folder, seed, **start))


def seed_fields(folder: Path, seed: int, **start) -> dict:
    """The start line's: the seed, also in the settings."""
    config = start.pop("config", {"ema": 0.99}) | {"seed": seed}
    return {"run_id": f"{folder.parent.name}-{folder.name}", "seed": seed, "config": config} | start


def seed_runs(folder: Path, outcomes: str, **start) -> Path:
    """A run for each letter, its seed being its place: h hit, l late hit, m miss, d diverged, c cut off, e nothing."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed, letter in enumerate(outcomes):
        place = folder / f"seed-{seed}"
        if letter == "d":
            seed_run(place, seed, CORRECT[:2], "diverged", **start)
        elif letter == "c":
            seed_run(place, seed, CORRECT[:3], "preempted", **start)
        elif letter == "e":
            Script(place, **seed_fields(place, seed, **start)).log.close()
        else:
            seed_run(place, seed, {"h": CORRECT, "l": LATE, "m": MISSED}[letter], **start)
    return folder
