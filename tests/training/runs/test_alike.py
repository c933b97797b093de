"""What ranks compare before they train together, and how a difference is told."""

import pytest
from tiny_run import CPU, PHASES, flags

from training.config.parser import config_from
from training.config.schedule import resolved_schedule
from training.errors import ConfigError
from training.runs.alike import code_facts, refuse_differences, settings_facts

FACTS = {"--seed": 0, "commit of the code": "0123456789ab", "version of torch": "2.15.0", "version of timm": "1.0.31"}


def told(*others: dict) -> str:
    """Of a start whose rank 0 has FACTS."""
    with pytest.raises(ConfigError) as error:
        refuse_differences([FACTS, *(FACTS | other for other in others)])
    return str(error.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [("commit of the code", "ba9876543210"), ("version of torch", "2.14.1"), ("version of timm", "none")],
)
def test_another_version_on_one_rank(name, value):
    line = told({name: value})
    assert line.startswith(
        f"the ranks were not started alike: {name} is {value} on rank 1 and {FACTS[name]} on rank 0."
    )


def test_the_ranks_of_a_second_machine_are_named_together():
    line = told({}, {"version of torch": "2.14.1"}, {"version of torch": "2.14.1"}, {"--seed": 7})
    assert "version of torch is 2.14.1 on rank 2 and 2.15.0 on rank 0 (of 5, ranks 2-3 differ)" in line


def test_a_machine_without_git_has_the_same_code():
    """Its source files count."""
    refuse_differences([FACTS, FACTS | {"commit of the code": None}])
    assert "SHA-256 of the source files" in code_facts()


def test_long_values_are_shown_from_where_they_differ():
    with pytest.raises(ConfigError) as error:
        refuse_differences([{"--target": "x" * 500 + "93"}, {"--target": "x" * 500 + "94"}])
    assert (
        "94 on rank 1" not in str(error.value) and "x93… on rank 0" in str(error.value) and len(str(error.value)) < 300
    )


def test_what_a_machine_may_have_as_it_likes_is_not_compared(toy, tmp_path):
    """Paths, workers, threads; the copy of a schedule file under another name."""
    one, other = flags(toy, tmp_path / "run"), flags(toy, tmp_path / "elsewhere", "--workers", "3", "--threads", "2")
    copy = tmp_path / "copy.json"
    copy.write_text(one[one.index("--phases") + 1].replace("'", '"').replace("(", "[").replace(")", "]"))
    other[other.index("--phases") + 1] = str(copy)
    found = [
        settings_facts(config := config_from(line), resolved_schedule(config, 2, print), CPU) for line in (one, other)
    ]
    refuse_differences(found)


def test_the_manifest_of_every_folder_that_a_phase_names_is_compared(toy, tmp_path):
    """A resized copy that differs on one machine."""
    root = tmp_path / "toy"
    root.symlink_to(toy)
    (tmp_path / "toy-sz").mkdir()
    (tmp_path / "toy-sz" / "32").symlink_to(toy)
    phases = PHASES.replace("'sz': 16", "'sz': 16, 'trndir': '-sz/32'")
    config = config_from(flags(root, tmp_path / "run", "--phases", phases))
    facts = settings_facts(config, resolved_schedule(config, 2, print), CPU)
    assert {"dataset DATA", "dataset DATA-sz/32"} <= facts.keys() and facts["loader"] == "memory"
