"""Statistics over the seeds of each recipe on the page, as `python -m dawn study` computes them."""

from dawn.dawnbench.tasks import target_text
from dawn.page.data import Shown
from dawn.page.html import note, section, table, text
from dawn.runlog.run import Run
from dawn.stats.runs import recipe_key
from dawn.stats.study import study, study_tables
from dawn.tables import counted


def statistics_section(shown: list[Shown]) -> str:
    """Empty for one run. Runs that differ in more than the seed are never thrown together."""
    if len(shown) == 1:
        return ""
    found = groups(shown)
    parts = [_part(group, len(found) > 1) for group in found]
    words = "Over the runs with the same settings but for the seed; a miss is an endless time, not one left out."
    return section("statistics", "Statistics", note(words) + "".join(parts))


def groups(shown: list[Shown]) -> list[list[Shown]]:
    """Runs of one recipe each, in the order of their first run."""
    found: dict[tuple[str, ...], list[Shown]] = {}
    for item in shown:
        found.setdefault(recipe_key(item.run), []).append(item)
    return list(found.values())


def _part(group: list[Shown], by_name: bool) -> str:
    """by_name: say which runs these are; the headings of two settings of a recipe can be the same."""
    runs = [item.run for item in group]
    start, many = runs[0].start, counted(len(runs), "run")
    recipe = start.recipe or "no recipe"
    wanted = "no target" if start.target is None else f"target {target_text(start.metric, start.target)}"
    heading = f"<h3>{text(f'{recipe} on {start.task}, {start.model}: {many}, {wanted}')}</h3>\n"
    heading += note(f"Runs: {'; '.join(item.name for item in group)}.") if by_name else ""
    reason = _no_study(runs)
    if reason:
        return heading + note(f"No statistics: {reason}.")
    tables = study_tables(study(runs))[1:]  # the first lists the runs, which stand above
    return heading + "".join(
        table(made.header or ("note",), [("", made.rows)], made.title, len(made.rows[0]) - 1) for made in tables
    )


def _no_study(runs: list[Run]) -> str:
    """Why these runs say nothing together; empty if they do."""
    seeds = [run.start.seed for run in runs]
    if len(runs) == 1:
        return "a single run is one draw"
    if runs[0].start.target is None:
        return "time to target needs runs with a target"
    if len(set(seeds)) < len(seeds):
        return "a seed occurs twice"
    if any(len({attempt.config_hash for attempt in run.attempts}) > 1 for run in runs):
        return "the attempts of a run differ in their settings"
    return ""
