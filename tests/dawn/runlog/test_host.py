"""What the log says of hosts: told where it may have changed a time, and never more than that."""

import pytest
from dawn_script import resumed_run, scripted_run

from dawn import RunError, read_run
from dawn.__main__ import main
from dawn.runlog.host import host_ids, host_notes, run_notes, start_notes

CALM = {
    "id": "0123abcd", "idle_seconds": 0.2, "others_load": 0.1, "load_1min": 1.5, "machine_cores": 2,
    "cpu_seconds": {"passed": 1000.0, "stolen": 1.0}, "quota_throttled_seconds": 4.0, "cpu_thermal_events": None,
}  # fmt: skip
GPU = {
    "name": "NVIDIA H100", "power_limit_watts": 700.0, "default_power_limit_watts": 700.0, "slowed_by": [],
    "thermal_slowdown_seconds": 12.0, "power_cap_seconds": 90.0,
}  # fmt: skip


def test_a_calm_host_is_not_spoken_of():
    assert not list(start_notes(CALM | {"gpus": [GPU]})) and not list(run_notes(CALM, CALM))
    assert not list(run_notes(CALM | {"gpus": [GPU]}, CALM | {"gpus": [GPU | {"slowed_by": ["power cap"]}]}))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"idle_seconds": 5.1}, "idle for 5.1 s before the clock started"),
        ({"others_load": 0.51}, "other programs kept 51% of each core busy"),
        ({"gpus": [GPU | {"power_limit_watts": 400.0}]}, "GPU 0: power limit 400 W, 700 W is its default"),
    ],
)
def test_what_was_so_at_the_start_is_told(change, words):
    (note,) = start_notes(CALM | change)
    assert words in note


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"cpu_seconds": {"passed": 1100.0, "stolen": 4.0}}, "3.0% of the processor's time was taken by other guests"),
        ({"quota_throttled_seconds": 4.5}, "held back for 0.5 s by the CPU quota"),
        ({"gpus": [GPU | {"thermal_slowdown_seconds": 14.0}]}, "GPU 0 was slowed down for 2.0 s because it was hot"),
        ({"gpus": [GPU | {"power_cap_seconds": 91.0}]}, "GPU 0 was slowed down for 1.0 s by its power limit"),
        ({"gpus": [GPU | {"slowed_by": ["thermal"]}]}, "GPU 0 was slowed down when the run ended (thermal)"),
    ],
)
def test_what_happened_during_the_run_is_told(change, words):
    (note,) = run_notes(CALM | {"gpus": [GPU]}, CALM | {"gpus": [GPU]} | change)
    assert words in note


def test_check_tells_it_of_each_attempt_and_host(tmp_path, capsys):
    scripted_run(tmp_path, hosts=[CALM, CALM | {"idle_seconds": 60.0}])
    assert main(["check", str(tmp_path)]) == 0
    assert "    host 2: idle for 60.0 s before the clock started" in capsys.readouterr().out


def test_counters_of_a_machine_that_was_started_again_say_nothing():
    assert not list(run_notes(CALM, CALM | {"quota_throttled_seconds": 1.0, "cpu_seconds": {"passed": 3, "stolen": 0}}))


@pytest.mark.parametrize("made", [scripted_run, resumed_run])
def test_an_older_log_has_no_hosts(tmp_path, made):
    run = read_run(made(tmp_path))
    assert not run.start.hosts and not host_notes(run) and host_ids(run.start) == ()


HOSTILE = [
    {"idle_seconds": "x", "others_load": [1], "gpus": 3, "cpu_seconds": 7, "id": 5},
    {"gpus": [None, {"power_limit_watts": True, "slowed_by": "no"}], "cpu_seconds": {"passed": None}},
]


@pytest.mark.parametrize("facts", HOSTILE)
def test_facts_that_make_no_sense_are_passed_over(tmp_path, facts):
    run = read_run(scripted_run(tmp_path, hosts=[facts]))
    assert not host_notes(run) and host_ids(run.start) == () and not list(run_notes(facts, facts))


def test_hosts_that_are_no_objects_are_refused(tmp_path):
    with pytest.raises(RunError, match="line 1: 'host' is 'a'"):
        read_run(scripted_run(tmp_path, hosts=["a"]))
