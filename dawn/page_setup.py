"""The end of the page: what was checked, and what the runs ran with."""

from dawn.page_checks import checks_of
from dawn.page_data import Shown
from dawn.page_html import details, facts, note, section, table
from dawn.page_sections import grouped

LONGEST_SETTING = 40  # characters of a value in the table of differences


def setup_section(shown: list[Shown]) -> str:
    inside = _differences(shown) if len(shown) > 1 else ""
    for item in shown:
        start, latest = item.run.start, item.run.latest
        parts = [
            ("Hardware", latest.hardware), ("Versions", latest.versions), ("Dataset", start.dataset),
            ("Optimizer", start.optimizer), ("Configuration", start.config),
        ]  # fmt: skip
        words = "".join(f"<h4>{name}</h4>{facts(values.items())}" for name, values in parts)
        general = {
            "started": start.utc, "run id": start.run_id, "config hash": start.config_hash, "commit": latest.commit,
            "precision": start.precision, "processes": start.world_size, "page cache": start.page_cache,
            "compile cache": start.compile_cache, "attempts": len(item.run.attempts), "clocks": start.clock_definition,
        }  # fmt: skip
        inside += details(f"Set-up of {item.name}", facts(general.items()) + words, len(shown) == 1)
    return section("setup", "Set-up", inside)


def _differences(shown: list[Shown]) -> str:
    """Settings that are not the same in all runs."""
    configs = [item.run.start.config for item in shown]
    names = sorted({name for config in configs for name in config})
    unequal = [name for name in names if any(config.get(name) != configs[0].get(name) for config in configs)]
    if not unequal:
        return note("All runs have the same configuration.")
    columns = [_short([str(config.get(name, "-")) for config in configs]) for name in unequal]
    rows = [[item.name, *(column[i] for column in columns)] for i, item in enumerate(shown)]
    words = "Settings in which the runs differ (long values are numbered and stand in full below):"
    return note(words) + table(("run", *unequal), [("", rows)], "Settings that differ")


def _short(values: list[str]) -> list[str]:
    """Long values, such as schedules, differ where a table does not show it: their numbers, equal for equal ones."""
    kinds = list(dict.fromkeys(values))
    long = max(map(len, values)) > LONGEST_SETTING
    return [f"no. {kinds.index(value) + 1}" if long else value for value in values]


def checks_section(shown: list[Shown]) -> str:
    marks = {True: "✓ passed", False: "✗ failed", None: "• note"}
    found = {item.name: checks_of(item.run) for item in shown}
    rows = grouped(shown, lambda item: [[marks[check.passed], check.words] for check in found[item.name]])
    inside = table(("result", "what"), rows, "Checks of each run", wrapped=1)
    if len(shown) > 1:
        wrong = [[name, c.words] for name, checks in found.items() for c in checks if not c.passed]
        some = note(f"{sum(len(checks) for checks in found.values()) - len(wrong)} checks passed, the others are:")
        list_of_wrong = some + table(("run", "what"), [("", wrong)], "Checks that did not pass", wrapped=1)
        inside = (list_of_wrong if wrong else note("All checks passed.")) + details("All checks of every run", inside)
    return section("checks", "Checks", inside)
