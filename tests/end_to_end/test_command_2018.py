"""The 2018 command: its lines as people type them, on today's engine."""

import os
import shlex
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
from run_toy import events

from data_prep.trees.adopt import adopt
from phases import Schedule, load_preset
from training.config.config import Config
from training.errors import ConfigError
from training.train_imagenet_nv import config_from_2018, legacy_parser, main

SCRIPT = Path(__file__).resolve().parents[2] / "training" / "train_imagenet_nv.py"
PHASES = (
    "[{'ep': 0, 'sz': 128, 'bs': 512, 'trndir': '-sz/160'}, {'ep': (0, 7), 'lr': (1.0, 2.0)}, "
    "{'ep': (7, 13), 'lr': (2.0, 0.25)}, {'ep': 13, 'sz': 224, 'bs': 224, 'trndir': '-sz/320', 'min_scale': 0.087}, "
    "{'ep': (13, 22), 'lr': (0.4375, 0.043750000000000004)}, {'ep': (22, 25), 'lr': (0.043750000000000004, 0.004375)}, "
    "{'ep': 25, 'sz': 288, 'bs': 128, 'min_scale': 0.5, 'rect_val': True}, {'ep': (25, 28), 'lr': (0.0025, 0.00025)}]"
)
ONE_MACHINE = f'/data/imagenet --fp16 --logdir runs/x --distributed --init-bn0 --no-bn-wd --phases "{PHASES}"'
EVERYTHING = (
    "--local_rank=1 /data/imagenet -j 8 --start-epoch 2 --momentum 0.8 --wd 2e-4 -p 7 --loss-scale 1024 "
    "--dist-url tcp://10.0.0.1:6006 --dist-backend nccl --short-epoch -e --skip-auto-shutdown "
    "--auto-shutdown-success-delay-mins 5 --auto-shutdown-failure-delay-mins 60 --phases imagenet18-1"
)
TINY = (
    "[{'ep': 0, 'sz': 32, 'bs': 60, 'trndir': '-sz/160'}, {'ep': (0, 1), 'lr': (0.1, 0.2)}, "
    "{'ep': (1, 3), 'lr': (0.2, 0.02)}, {'ep': 1, 'sz': 40, 'bs': 60, 'trndir': '-sz/320', 'min_scale': 0.087}, "
    "{'ep': 2, 'sz': 48, 'bs': 60, 'rect_val': True}]"
)
CPU = ["--device", "cpu", "--model", "timm/test_resnet", "--threads", "1", "--workers", "1"]
LAUNCHERS = {
    "launch": ["torch.distributed.launch", "--nproc_per_node=2", "--nnodes=1", "--node_rank=0"],
    "torchrun": ["torch.distributed.run", "--nproc-per-node=2", "--rdzv-backend=c10d", "--rdzv-endpoint=localhost:0"],
}


@pytest.fixture(autouse=True)
def no_launcher(monkeypatch):
    """The command writes LOCAL_RANK; the environment of the tests stays as it was."""
    monkeypatch.setenv("LOCAL_RANK", "-")
    monkeypatch.delenv("LOCAL_RANK")
    monkeypatch.delenv("WORLD_SIZE", raising=False)


@pytest.fixture(scope="module")
def imagenet(toy, tmp_path_factory) -> Path:
    """A tree called imagenet that was never adopted, and its copies imagenet-sz/160 and imagenet-sz/320, which were."""
    root = tmp_path_factory.mktemp("data") / "imagenet"
    for place in (root, root.with_name("imagenet-sz") / "160", root.with_name("imagenet-sz") / "320"):
        for split in ("train", "validation"):
            (place / split).parent.mkdir(parents=True, exist_ok=True)
            (place / split).symlink_to(toy / split)
        if place != root:
            adopt(place, follow_links=True, name="imagenet")
    return root


def refuse(text: str) -> None:
    raise AssertionError(text)


def changed(config: Config) -> dict:
    """What is not as the 2018 command has it without flags."""
    plain = config_from_2018(["DATA", "--phases", "imagenet18-1"], refuse)
    return {name: value for name, value in asdict(config).items() if value != getattr(plain, name)}


def run_code(code: str, folder: Path) -> subprocess.CompletedProcess:
    """A fresh interpreter in another folder, with the script's path as its argument."""
    command = [sys.executable, "-c", code, SCRIPT]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600)


def run_by_path(arguments: list[str], folder: Path, *launcher: str) -> subprocess.CompletedProcess:
    """The script by its path, in another folder and without PYTHONPATH."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, *launcher, SCRIPT, *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=900)


def test_the_defaults_are_those_of_2018():
    config = config_from_2018(["DATA", "--phases", "imagenet18-1"], refuse)
    assert (config.model, config.weight_decay, config.momentum, config.print_freq) == ("resnet50", 1e-4, 0.9, 5)
    assert (config.target, config.metric, config.stop_at_target) == ("93", "top5", False)
    assert (config.optimizer, config.nesterov, config.label_smoothing, config.ema_decay) == ("sgd", False, 0, 0)


def test_the_command_line_of_the_readme():
    told = []
    config = config_from_2018(shlex.split(ONE_MACHINE), told.append)
    assert changed(config) == {"data": "/data/imagenet", "phases": PHASES, "precision": "fp16", "logdir": "runs/x",
                               "init_bn0": True, "no_bn_wd": True}  # fmt: skip
    assert len(told) == 1 and "--distributed" in told[0] and "alone" in told[0]
    schedule = Schedule.parse(config.phases)
    assert (schedule.total_epochs, schedule.data_at(24).trndir, schedule.data_at(25).rect_val) == (28, "-sz/320", True)
    preset = Schedule.parse(load_preset("imagenet18-1")["phases"])
    assert [schedule.lr_at(e / 8) for e in range(1, 224)] == [preset.lr_at(e / 8) for e in range(1, 224)]


def test_every_flag_of_2018(monkeypatch):
    told = []
    config = config_from_2018(shlex.split(EVERYTHING), told.append)
    assert changed(config) == {
        "data": "/data/imagenet", "workers": 8, "start_epoch": 2, "momentum": 0.8, "weight_decay": 2e-4,
        "print_freq": 7, "loss_scale": 1024, "dist_url": "tcp://10.0.0.1:6006", "dist_backend": "nccl",
        "short_epoch": True, "evaluate": True,
    }  # fmt: skip
    assert len(told) == 1 and "ignored" in told[0] and "--auto-shutdown-failure-delay-mins" in told[0]
    long = EVERYTHING.replace("-j ", "--workers ").replace("--wd", "--weight-decay").replace("-p ", "--print-freq ")
    long = long.replace("-e --skip", "--evaluate --skip").replace("--local_rank", "--local-rank")
    assert config_from_2018(shlex.split(long), told.append) == config


def test_flags_of_today_work_beside_them():
    config = config_from_2018(["DATA", "--phases", "imagenet18-1", "--epochs", "18", "--ema-decay", "0.9"], refuse)
    assert changed(config) == {"epochs": 18, "ema_decay": 0.9}
    assert config_from_2018(["DATA", "--recipe", "toy"], refuse).model == "cifarnet"


@pytest.mark.parametrize("flag", ["--local_rank", "--local-rank"])
def test_the_environment_wins_over_the_local_rank_flag(flag, monkeypatch):
    arguments = [f"{flag}=3", "DATA", "--phases", "imagenet18-1"]
    config_from_2018(arguments, refuse)
    assert os.environ["LOCAL_RANK"] == "3"
    monkeypatch.setenv("LOCAL_RANK", "1")
    config_from_2018(arguments, refuse)
    assert os.environ["LOCAL_RANK"] == "1"


def test_distributed_under_a_launcher_says_nothing(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "1")
    config_from_2018(["DATA", "--phases", "imagenet18-1", "--distributed"], refuse)


@pytest.mark.parametrize(
    ("more", "words"),
    [(["--local_rank", "x"], "--local_rank"), (["--local-rank=-1"], "--local_rank"),
     (["--fp16", "--precision", "bf16"], "--fp16 and --precision bf16"), (["--lr", "0.1"], "--lr"),
     (["--phases", "__import__('os').system('true')"], "phases")],
)  # fmt: skip
def test_bad_flags_are_one_line(more, words, capsys):
    assert main(["DATA", "--phases", "imagenet18-1", *more]) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ") and err.count("\n") == 1 and words in err


def test_fp16_said_twice_is_no_contradiction():
    assert config_from_2018(["D", "--phases", "toy", "--fp16", "--precision", "fp16"], refuse).precision == "fp16"
    with pytest.raises(ConfigError):
        config_from_2018(["D", "--phases", "toy", "--fp16", "--precision", "fp32"], refuse)


def test_a_tree_that_was_never_adopted_gets_the_command_that_does(imagenet, capsys):
    assert main([str(imagenet), "--phases", TINY]) == 2
    out, err = capsys.readouterr()
    line = err.splitlines()[-1]
    assert out == "" and line.startswith("error: ") and line.endswith(f"python -m data_prep adopt {imagenet}"), err


def test_help_from_another_folder_without_torch(tmp_path):
    code = (
        "import runpy, sys; path = sys.argv[1]; sys.argv = [path, '--help']\n"
        "try: runpy.run_path(path, run_name='__main__')\n"
        "except SystemExit as stop: sys.exit('torch' in sys.modules or stop.code)"
    )
    done = run_code(code, tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("usage: train_imagenet_nv.py")
    assert "weight decay (L2) (default: 0.0001)" in " ".join(done.stdout.split())


def test_a_spawned_worker_finds_the_packages(tmp_path):
    """What multiprocessing does in a child of a main module that was run by path."""
    code = (
        "import sys; from multiprocessing import spawn\n"
        "spawn.prepare({'init_main_from_path': sys.argv[1], 'sys_path': ['', *sys.path[1:]]})\n"
        "import training.config.config; sys.exit(sys.modules['__main__'].Config is not training.config.config.Config)"
    )
    done = run_code(code, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


def arguments_2018(imagenet: Path) -> list[str]:
    adopt(imagenet, follow_links=True)
    flags = ["--phases", TINY, "--distributed", "--init-bn0", "--no-bn-wd", "--skip-auto-shutdown", *CPU]
    more = ["--short-epoch", "--precision", "fp32", "--loader", "torchvision", "--logdir", "run", "--target", "100"]
    return [str(imagenet), *flags, *more]


def assert_ran(folder: Path, err: str) -> None:
    warnings = [line for line in err.splitlines() if line.startswith("warning: ")]
    assert "--skip-auto-shutdown: ignored" in warnings[0] and "--distributed: no launcher" in warnings[1]
    assert [event["epoch"] for event in events(folder / "run", "epoch")] == [0, 1, 2]
    assert (folder / "run" / "result.tsv").read_text().count("\n") == 4


def test_a_run_with_the_flags_of_2018(imagenet, tmp_path, monkeypatch, capsys):
    """To the end with forked workers; the shutdown flags power nothing off and are said to be ignored."""
    monkeypatch.chdir(tmp_path)
    assert main(arguments_2018(imagenet)) == 3  # below the target
    assert_ran(tmp_path, capsys.readouterr().err)


@pytest.mark.slow
def test_a_run_by_path_from_another_folder(imagenet, tmp_path):
    done = run_by_path(arguments_2018(imagenet), tmp_path)
    assert done.returncode == 3, done.stderr
    assert_ran(tmp_path, done.stderr)


@pytest.mark.slow
@pytest.mark.parametrize(("launcher", "target", "code"), [("launch", "1", 0), ("torchrun", "100", 1)])
def test_the_two_commands_of_2018(launcher, target, code, imagenet, tmp_path):
    """Two processes in half precision under a launcher, then the DAWN table from the event file. A launcher ends the
    other processes when one ends with a code: rank 0 still writes its reports."""
    adopt(imagenet, follow_links=True)
    arguments = [imagenet, "--phases", TINY.replace("'bs': 60", "'bs': 30"), "--fp16", "--logdir", "x", "--distributed"]
    more = ["--init-bn0", "--no-bn-wd", "--target", target, *CPU]
    done = run_by_path([*arguments, *more], tmp_path, "-m", *LAUNCHERS[launcher])
    assert done.returncode == code, done.stderr
    assert {"result.tsv", "summary.txt", "accuracy.png"} <= {path.name for path in (tmp_path / "x").iterdir()}
    assert events(tmp_path / "x", "stop")[-1]["exit_code"] == 3 * code
    assert "error: " not in done.stderr and done.stdout.count("T_dawn") == 2, done.stdout  # once for both ranks
    assert {event["world_size"] for event in events(tmp_path / "x", "start")} == {2}
    (written,) = (tmp_path / "x").glob("events.out.tfevents.*")
    command = [sys.executable, SCRIPT.parents[1] / "dawn" / "prepare_dawn_tsv.py", f"--events_path={written}"]
    table = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=600)
    assert table.returncode == 0, table.stderr
    assert table.stdout.splitlines()[0] == "epoch\thours\ttop1Accuracy\ttop5Accuracy"
    assert table.stdout.splitlines()[1].startswith("1\t")


def test_every_flag_of_the_2018_parser_is_there():
    flags = """--phases -j --workers --start-epoch --momentum --weight-decay --wd --init-bn0 -p --print-freq --no-bn-wd
        --resume -e --evaluate --fp16 --loss-scale --distributed --dist-url --dist-backend --local_rank --local-rank
        --logdir --short-epoch --skip-auto-shutdown --auto-shutdown-success-delay-mins
        --auto-shutdown-failure-delay-mins"""
    assert set(flags.split()) <= set(legacy_parser()._option_string_actions)
