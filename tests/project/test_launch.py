"""The files in launch/: they parse, name only flags that exist, and the Slurm script resumes and requeues.

Slurm's commands are stand-ins here: a step that waits, and one that says in run.jsonl that it was stopped and saved.
"""

import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest
import yaml
from torch.distributed.run import get_args_parser

from data_prep.__main__ import _parser as data_parser
from data_prep.engines.on_ray import _facts_function
from training.train_imagenet_nv import legacy_parser

LAUNCH = Path(__file__).resolve().parents[2] / "launch"
COMMAND = "training/train_imagenet_nv.py"
STEP = """#!/usr/bin/env bash
trap 'echo "{\\"event\\": \\"stop\\", \\"outcome\\": \\"preempted\\"}" >> "$RUN/run.jsonl"; exit 1' USR1
printf '%s\\n' "$@" > arguments
for try in {1..15000}; do sleep 0.02; done
"""
COMMANDS = {
    "srun": STEP,
    "scontrol": '#!/bin/sh\n[ "$1" = show ] && echo node7 || echo "$@" >> requeued\n',
    "scancel": '#!/bin/sh\ncase "$1" in --signal=TERM) kill -USR1 "$(cat step)";; esac\n',
    "squeue": '#!/bin/sh\necho "${STATE:-RUNNING}"\n',
}


def scripts() -> dict[str, str]:
    """What a shell runs, by the file that holds it."""
    sky = yaml.safe_load((LAUNCH / "skypilot.yaml").read_text())
    pod = yaml.safe_load((LAUNCH / "kubernetes.yaml").read_text())["spec"]["pytorchReplicaSpecs"]["Worker"]["template"]
    return {
        "slurm.sh": (LAUNCH / "slurm.sh").read_text(),
        "skypilot.yaml": sky["setup"] + sky["run"],
        "kubernetes.yaml": pod["spec"]["containers"][0]["args"][0],
        "torchx": re.sub(r"^# ", "", "\n".join((LAUNCH / "kubernetes.yaml").read_text().splitlines()[:17]), flags=re.M),
    }


@pytest.mark.parametrize("name", ["slurm.sh", "skypilot.yaml", "kubernetes.yaml"])
def test_every_script_is_bash(name):
    done = subprocess.run(["bash", "-n"], input=scripts()[name], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("name", ["slurm.sh", "skypilot.yaml", "kubernetes.yaml", "torchx"])
def test_every_flag_of_the_run_and_of_torchrun_exists(name):
    before, _, after = scripts()[name].rpartition(COMMAND)
    run = set(re.findall(r"(?<![\w-])--[a-z0-9-]+", after.split("&\n")[0]))
    assert {"--phases", "--logdir", "--init-bn0", "--no-bn-wd"} <= run <= set(legacy_parser()._option_string_actions)
    if name != "torchx":
        launcher = set(re.findall(r"(?<![\w-])--[a-z0-9-]+", before.rpartition("torchrun")[2]))
        assert launcher <= set(get_args_parser()._option_string_actions)
        needed = {"--nnodes", "--rdzv-backend", "--rdzv-endpoint", "--max-restarts"}
        assert needed <= launcher or name == "kubernetes.yaml"  # there the operator sets them


def test_the_operator_starts_as_many_pods_and_processes_as_there_are_gpus():
    spec = yaml.safe_load((LAUNCH / "kubernetes.yaml").read_text())["spec"]
    elastic, worker = spec["elasticPolicy"], spec["pytorchReplicaSpecs"]["Worker"]
    container = worker["template"]["spec"]["containers"][0]
    assert elastic["minReplicas"] == elastic["maxReplicas"] == worker["replicas"] == 4
    assert elastic["nProcPerNode"] == container["resources"]["limits"]["nvidia.com/gpu"] == 8


def ray_cluster() -> dict:
    return yaml.safe_load((LAUNCH / "ray.yaml").read_text())


def test_every_command_of_the_ray_cluster_is_bash():
    commands = [command for key, lines in ray_cluster().items() if key.endswith("_commands") for command in lines]
    assert len(commands) > 10
    for command in commands:
        done = subprocess.run(["bash", "-n", "-c", command], capture_output=True, text=True, timeout=120)
        assert (done.returncode, done.stderr) == (0, ""), command


def test_the_commands_of_the_ray_files_head_are_ours():
    text = " ".join(line.lstrip("# ") for line in (LAUNCH / "ray.yaml").read_text().splitlines()[:12])
    commands = re.findall(r"python -m data_prep ([^&']*)", text)
    assert [dict(vars(data_parser().parse_args(command.split())))["command"] for command in commands] == [
        "adopt",
        "resize",
    ]


def test_the_machines_of_the_ray_cluster_have_what_data_prep_imports():
    """They have no PyTorch. What is installed there is what the engine compares, and what shows the progress."""
    install = next(line for line in ray_cluster()["setup_commands"] if "constraints.txt" in line)
    packages = set(re.findall(r"[\w.]+", install.partition("constraints.txt")[2]))
    assert {"rich", "ray", *_facts_function()()} - {"data_prep"} <= packages


@pytest.mark.slow
def test_ray_accepts_the_cluster():
    util = pytest.importorskip("ray.autoscaler._private.util")
    util.validate_config(util.prepare_config(ray_cluster()))


@pytest.fixture
def job(tmp_path):
    """A function that starts slurm.sh with stand-ins for Slurm, in a folder of its own, and waits for its step."""
    for name, text in COMMANDS.items():
        place = tmp_path / "bin" / name
        place.parent.mkdir(exist_ok=True)
        place.write_text(text.replace("> arguments", "> arguments; echo $$ > step"))
        place.chmod(0o755)
    (tmp_path / "run").mkdir()
    environment = {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "RUN": str(tmp_path / "run"), "DATA": "/data/x",
                   "SLURM_JOB_ID": "31", "SLURM_JOB_NODELIST": "node[7-8]", "SLURM_JOB_NUM_NODES": "2"}  # fmt: skip

    def start(*flags: str, **more: str) -> subprocess.Popen:
        process = subprocess.Popen(["bash", LAUNCH / "slurm.sh", *flags], cwd=tmp_path, env=environment | more)
        end = time.monotonic() + 120
        while not (tmp_path / "step").exists() or not (tmp_path / "step").read_text():
            assert time.monotonic() < end
            time.sleep(0.01)
        return process

    return start


def test_a_signalled_job_saves_goes_back_into_the_queue_and_resumes(job, tmp_path):
    process = job("--epochs", "18")
    arguments = (tmp_path / "arguments").read_text().splitlines()
    assert {"--nnodes=2", "--rdzv-endpoint=node7:20031", "--rdzv-id=31", "--nproc-per-node=1"} <= set(arguments)
    assert arguments[-2:] == ["--epochs", "18"] and "--resume" not in arguments
    process.send_signal(signal.SIGTERM)
    assert process.wait(120) == 1
    assert (tmp_path / "requeued").read_text() == "requeue 31\n"
    (tmp_path / "step").unlink()
    process = job()
    arguments = (tmp_path / "arguments").read_text().splitlines()
    assert arguments[-2:] == ["--resume", str(tmp_path / "run")]
    process.send_signal(signal.SIGTERM)
    process.wait(120)


def test_a_task_of_srun_gets_the_processors_of_the_job(job, tmp_path):
    """From Slurm 22.05 on srun does not take --cpus-per-task from the job."""
    process = job(SLURM_CPUS_PER_TASK="96")
    assert "--cpus-per-task=96" in (tmp_path / "arguments").read_text().splitlines()
    process.send_signal(signal.SIGTERM)
    process.wait(120)


def test_two_jobs_whose_first_machine_is_the_same_meet_at_different_ports():
    """The second died with the first. From 32768 on Linux hands ports out to anybody."""
    line = next(line for line in scripts()["slurm.sh"].splitlines() if line.startswith("port="))
    ports = []
    for job in ("31", "32", "999999999"):
        told = subprocess.run(["bash", "-c", f"{line}\necho $port"], env={"SLURM_JOB_ID": job}, capture_output=True)
        ports.append(int(told.stdout))
    assert len(set(ports)) == 3 and all(1024 < port < 32768 for port in ports)


def test_a_cancelled_job_stays_ended(job, tmp_path):
    process = job(STATE="COMPLETING")
    process.send_signal(signal.SIGTERM)
    assert process.wait(120) == 1 and "preempted" in (tmp_path / "run" / "run.jsonl").read_text()
    assert not (tmp_path / "requeued").exists()


def test_a_job_that_fails_by_itself_is_not_requeued(job, tmp_path):
    process = job()
    os.kill(int((tmp_path / "step").read_text()), signal.SIGKILL)
    assert process.wait(120) == 128 + signal.SIGKILL
    assert not (tmp_path / "requeued").exists()
