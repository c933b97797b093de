"""Two processes train what one process trains, and have the same weights afterwards."""

import re
from contextlib import contextmanager

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from rank_processes import trained, world
from tiny_run import events, flags, tiny_job
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.nn.parallel import DistributedDataParallel
from torch.utils._python_dispatch import TorchDispatchMode

from dawn import Clock
from training.config.config import Config
from training.config.parser import config_from
from training.config.schedule import resolved_schedule
from training.data.loader import open_loader
from training.distributed.env import Env, open_env
from training.distributed.group import open_group
from training.distributed.launcher import ranks
from training.distributed.parallel import distributed, wrapped
from training.engine import trainer
from training.engine.state import fingerprint
from training.engine.step import step
from training.logs.metrics import correct_counts
from training.models.build import build_model
from training.runs.session import build_state, checked_input, opened_job

STEPS = 5
SGD = ["--nesterov", "--weight-decay", "0.01", "--label-smoothing", "0.1", "--ema-decay", "0.8", "--ema-every", "2"]
MUON = ["--optimizer", "muon", "--nesterov", "--ema-decay", "0.8", "--ema-every", "2"]
MUON += ["--lookahead", "0.7", "--lookahead-every", "2", "--muon-rescale-every", "2"]
MIXED = ["--mixup", "0.2", "--cutmix", "1.0", "--loss", "bce"]
PARTS = ["--model", "timm/test_resnet", "--blurpool", "--drop-path", "0.2", "--clip-grad", "1", "--optimizer", "lamb"]
PARTS += [*MIXED, "--accumulate", "2", "--ema-decay", "0.8", "--ema-every", "2"]
FROZEN = "[{'ep': 0, 'sz': 12, 'bs': 30}, {'ep': (0, 2), 'lr': (0.0, 0.0)}]"


@pytest.fixture(scope="module")
def two():
    with world(2) as opened:
        yield opened


def phases(batch: int, size: int = 12) -> str:
    """`batch` images of all ranks together."""
    return f"[{{'ep': 0, 'sz': {size}, 'bs': {batch // ranks().world_size}}}, {{'ep': (0, 2), 'lr': (0.1, 0.02)}}]"


@contextmanager
def ready(toy, *more: str, batch: int = 48, size: int = 12):
    """(config, state, loader) of this rank; no run folder."""
    config = config_from(flags(toy, "", "--phases", phases(batch, size), *more))
    schedule = resolved_schedule(config, ranks().world_size, print)
    with open_env(config) as env:
        dataset = checked_input(config, schedule, env)
        state, _ = build_state(config, schedule, dataset, env, Clock())
        loader = open_loader(config, schedule, dataset, env, state.precision.dtype)
        loader.set_phase(schedule.data[0])
        yield config, state, loader


# one process, two processes


def steps_with_fixed_statistics(toy, *more: str) -> tuple[list[torch.Tensor], float, float]:
    """Weights and their average after STEPS steps with batch norm in eval mode; this rank's share of the mean loss; the
    largest change of a weight."""
    with ready(toy, *SGD, *more) as (config, state, loader):
        state.model.eval()
        before = [p.detach().clone() for p in state.model.parameters()]
        for batch, _ in zip(loader.train(0), range(STEPS), strict=False):
            step(config, state, batch, 0.1, None)
            state.step += 1
        after = [p.detach() for p in state.model.parameters()]
        moved = max(float((new - old).abs().max()) for new, old in zip(after, before, strict=True))
        weights = [*state.model.parameters(), *state.average.module.parameters()]
        return [w.detach() for w in weights], float(state.loss_sum) / STEPS / ranks().world_size, moved


@pytest.fixture(scope="module")
def one_rank(toy):
    return steps_with_fixed_statistics(toy)


@pytest.mark.parametrize(
    "accumulate", ["1", pytest.param("2", marks=pytest.mark.slow), pytest.param("3", marks=pytest.mark.slow), "12"]
)
def test_two_ranks_train_as_one_with_the_same_global_batch(two, toy, one_rank, accumulate):
    """Also when each batch is cut into parts; 12 parts of 24 images are of two."""
    weights, loss, moved = one_rank
    found = two.call(steps_with_fixed_statistics, toy, "--accumulate", accumulate)
    for part, _, _ in found:
        torch.testing.assert_close(part, weights, rtol=1e-4, atol=1e-6)
    assert sum(share for _, share, _ in found) == pytest.approx(loss, rel=1e-6) and moved > 0.01


@pytest.mark.parametrize("accumulate", ["2", "16"])
def test_the_parts_of_a_batch_are_the_batch(toy, one_rank, accumulate):
    weights, loss, _ = steps_with_fixed_statistics(toy, "--accumulate", accumulate)
    torch.testing.assert_close(weights, one_rank[0], rtol=1e-4, atol=1e-6)
    assert loss == pytest.approx(one_rank[1], rel=1e-6)


def test_the_comparison_notices_another_batch(toy, one_rank):
    """Negative control: the same images in another order."""
    weights, _, _ = steps_with_fixed_statistics(toy, "--seed", "1")
    with pytest.raises(AssertionError):
        torch.testing.assert_close(weights, one_rank[0], rtol=1e-2, atol=1e-3)


def reductions(toy, accumulate: str) -> list[int]:
    """Bytes of gradients sent in each of three steps."""
    sent = []

    def counted(process_group, bucket):
        sent[-1] += bucket.buffer().nbytes
        return allreduce_hook(process_group, bucket)

    with ready(toy, "--accumulate", accumulate) as (config, state, loader):
        state.forward.register_comm_hook(dist.group.WORLD, counted)
        for batch, _ in zip(loader.train(0), range(3), strict=False):
            sent.append(0)
            step(config, state, batch, 0.1, None)
        assert sum(p.nbytes for p in state.model.parameters() if p.requires_grad) == sent[0]
    return sent


def test_gradients_travel_once_a_step_however_many_parts_it_has(two, toy):
    whole, parts = two.call(reductions, toy, "1"), two.call(reductions, toy, "4")
    assert whole == parts and len({number for found in whole for number in found}) == 1


# the same weights and statistics on both ranks


def hashes(state) -> dict[str, str]:
    return {
        "weights": fingerprint([p.detach() for p in state.model.parameters()]),
        "optimizer": fingerprint([optimizer.state_dict() for optimizer in state.optimizers]),
        "average": fingerprint([p.detach() for p in state.average.module.parameters()]) if state.average else "",
        "slow weights": fingerprint(slow_weights(state)),
        "evaluated statistics": fingerprint(list(state.evaluated_model().buffers())),
    }


def slow_weights(state) -> list[torch.Tensor]:
    """Of lookahead; statistics are each rank's own."""
    names = {name for name, _ in state.model.named_parameters()}
    return [value for name, value in state.lookahead.slow.items() if name in names] if state.lookahead else []


def fitted(toy, folder, *more: str) -> dict[str, str]:
    """Hashes at the end of a run."""
    config = config_from(flags(toy, folder, "--batch-size", "30", *more))
    with opened_job(config, resolved_schedule(config, ranks().world_size, print)) as job:
        trainer.fit(job)
        job.loader.close()
        return hashes(job.state)


def stepped(toy, *more: str) -> dict[str, str]:
    """Hashes after some steps."""
    with ready(toy, *more) as (config, state, loader):
        for batch in loader.train(0):
            step(config, state, batch, 0.1, None)
        return hashes(state)


@pytest.mark.parametrize(
    "more",
    [pytest.param(["--nesterov"], marks=pytest.mark.slow), pytest.param(SGD, marks=pytest.mark.slow), MUON, PARTS],
    ids=["sgd", "sgd and average", "muon and average", "parts of recipes"],
)
def test_weights_optimizers_and_averages_stay_the_same_on_both_ranks(two, toy, tmp_path, more):
    first, second = two.call(fitted, toy, tmp_path / "run", *more)
    assert first == second


def test_before_validation_each_rank_has_statistics_of_its_own(two, toy):
    """Negative control: what validation makes the same."""
    first, second = two.call(stepped, toy, "--nesterov")
    assert {name for name in first if first[name] != second[name]} == {"evaluated statistics"}


class Collectives(TorchDispatchMode):
    """Names of the exchanges with the other ranks."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function.namespace == "c10d":
            self.names.append(function.overloadpacket.__name__)
        return function(*args, **(kwargs or {}))


class Codebook(torch.nn.BatchNorm2d):
    """A layer whose training reads a buffer of its own, beside batch norm's."""

    def __init__(self) -> None:
        super().__init__(3)
        self.outer = torch.nn.Module()
        self.outer.register_buffer("codes", torch.zeros(3))


def broadcasts(other: bool) -> int:
    """Of a forward pass: the buffers that it takes from rank 0."""
    with open_group(Config(timeout_minutes=1), ranks()):
        forward = distributed(Codebook() if other else torch.nn.BatchNorm2d(3), Env(torch.device("cpu"), world_size=2))
        forward(torch.zeros(2, 3, 4, 4))
        with Collectives() as exchanged:
            forward(torch.zeros(2, 3, 4, 4))
    return exchanged.names.count("broadcast_")


def test_statistics_that_training_does_not_read_are_not_sent_before_a_step(two):
    """A ResNet-50 has 159 of them. A buffer that training may read is still rank 0's."""
    assert two.call(broadcasts, False) == [0, 0] and min(two.call(broadcasts, True)) > 0


def orders(mode: str) -> tuple[bool, bool]:
    """Whether DDP is around the compiled network, of one without and of one with a layer that freezes."""
    config = Config(compile=True, compile_mode=mode, timeout_minutes=1)
    with open_group(config, ranks()):
        env = Env(torch.device("cpu"), world_size=2)
        networks = torch.nn.Linear(2, 2), build_model(Config(width=0.125), 6)
        return tuple(isinstance(wrapped(config, network, env), DistributedDataParallel) for network in networks)


@pytest.mark.slow
def test_with_cuda_graphs_the_compiler_is_inside_ddp(two):
    """Outside, torch leaves the CUDA graphs out where batch norm's statistics change (pytorch#139207)."""
    assert two.call(orders, "default") == [(False, True)] * 2
    assert two.call(orders, "reduce-overhead") == [(True, True)] * 2


@pytest.mark.parametrize(
    "average",
    [pytest.param([], marks=pytest.mark.slow), ["--ema-decay", "0.8", "--ema-every", "2"]],
    ids=["model", "average"],
)
def test_a_reloaded_checkpoint_gives_the_logged_counts(two, toy, tmp_path, average):
    """With two ranks, and with one, whose batches are other ones."""
    run = tmp_path / "run"
    assert [ended.code for ended in two.call(trained, flags(toy, run, "--batch-size", "30", *average))] == [0, 0]
    logged = events(run)[-1]["validation"]
    expected = [logged["correct1"], logged["images"], logged["correct5"]]
    again, silent = two.call(trained, ["--resume", run, "--evaluate"])
    assert counted(again.out) == expected and not silent.out
    assert counted(alone("--resume", run, "--evaluate", "--allow-elastic").out) == expected
    first, second = two.call(evaluated_differently, run)
    assert (first.code, second.code) == (2, 2) and not first.out + second.out + second.err
    assert "not started alike: --tta is ['flip'] on rank 1 and ['none'] on rank 0" in first.err


def evaluated_differently(run):
    return trained(["evaluate", run, "--tta", "flip" if ranks().rank else "none"])


def alone(*arguments):
    ended = trained(list(arguments))
    assert ended.code == 0, ended.err
    return ended


def counted(line: str) -> list[int]:
    """'top-1 38.333 % (23 of 60), top-5 98.333 % (59), at ...' -> [23, 60, 59]."""
    return [int(number) for number in re.search(r"\((\d+) of (\d+)\), top-\d \S+ % \((\d+)\)", line).groups()]


# what the log says


def test_loss_and_accuracy_of_the_log_are_those_of_the_global_batch(two, toy, tmp_path):
    """At learning rate 0 every step sees the first weights, so each of them can be done again here."""
    more = ("--phases", FROZEN, "--label-smoothing", "0.2", "--print-freq", "1", "--eval-from", "1")
    two.call(trained, flags(toy, tmp_path / "run", *more))
    config = config_from(flags(toy, "", *more))
    expected = [reference(parts, config, toy) for parts in zip(*of_each_rank(config, toy), strict=True)]
    logged = events(tmp_path / "run", "step")[:4]
    found = [[line[f"losses/{name}"] for name in ("xent", "train_1", "train_5")] for line in logged]
    assert found == [pytest.approx(values, rel=1e-5) for values in expected]
    mean = sum(values[0] for values in expected) / 4
    assert events(tmp_path / "run")[0]["train_loss"] == pytest.approx(mean, rel=1e-5)


def loader_of(config, toy, rank: int):
    from data_prep import load_manifest

    schedule = resolved_schedule(config, 2, print)
    loader = open_loader(config, schedule, load_manifest(toy), Env(torch.device("cpu"), rank, 2), torch.float32)
    loader.set_phase(schedule.data[0])
    return loader


def of_each_rank(config, toy) -> list[list]:
    return [list(loader_of(config, toy, rank).train(0)) for rank in range(2)]


def reference(parts, config, toy) -> list[float]:
    """Loss, top-1 and top-5 in percent of the two ranks' batches with the first weights."""
    model = build_model(config, 6).train()
    model.initialise_from(loader_of(config, toy, 0).first_images(trainer.WHITENING_IMAGES))
    with torch.no_grad():
        logits = torch.cat([model(part.images) for part in parts])  # batch norm is of each rank's part
    targets = torch.cat([part.targets for part in parts])
    loss = F.cross_entropy(logits, targets, label_smoothing=config.label_smoothing)
    return [float(loss), *(100 * correct_counts(logits, targets, 5) / len(targets)).tolist()]


# how the network is wrapped


def test_one_process_under_torchrun_is_not_wrapped(toy, tmp_path, monkeypatch):
    for name, value in {"RANK": 0, "LOCAL_RANK": 0, "WORLD_SIZE": 1, "LOCAL_WORLD_SIZE": 1}.items():
        monkeypatch.setenv(name, str(value))
    with tiny_job(toy, tmp_path / "run") as job:
        assert job.state.forward is job.state.model and not dist.is_initialized()
        assert not any(isinstance(module, DistributedDataParallel) for module in job.state.model.modules())
        job.loader.close()


def test_sync_bn_on_a_cpu_is_refused_in_one_line(two, toy, tmp_path):
    first, second = two.call(trained, flags(toy, tmp_path / "run", "--sync-bn"))
    assert (first.code, second.code, second.err) == (2, 2, "") and not (tmp_path / "run").exists()
    assert first.err.startswith("error: --sync-bn: ") and first.err.count("\n") == 1


def layouts(toy, *more: str) -> list[str]:
    """Of one step: modules whose output is not channels_last, where the layouts differ at all."""
    with ready(toy, *more, batch=8, size=32) as (config, state, loader):
        assert isinstance(state.forward, DistributedDataParallel)
        other = []

        def look(name: str, output: torch.Tensor) -> None:
            if output.dim() == 4 and output.shape[1] > 1 and output.shape[2] * output.shape[3] > 1:
                other.append(name) if not output.is_contiguous(memory_format=torch.channels_last) else seen.append(name)

        seen = []
        for name, module in state.model.named_modules():
            module.register_forward_hook(lambda _, __, output, name=name: look(name, output))
        step(config, state, next(loader.train(0)), 0.1, None)
        assert len(seen) + len(other) > 10
        return other


@pytest.mark.parametrize(
    "more",
    [
        pytest.param(["--model", "cifarnet"], marks=pytest.mark.slow),
        pytest.param(["--model", "resnet18"], marks=pytest.mark.slow),
        ["--model", "timm/resnet18", "--blurpool", *MIXED],
    ],
)
def test_every_layer_is_channels_last_from_end_to_end(two, toy, more):
    assert two.call(layouts, toy, *more) == [[], []]


@pytest.mark.slow
def test_the_check_of_layouts_notices_the_other_one(two, toy):
    """Negative control."""
    assert all(two.call(layouts, toy, "--model", "resnet18", "--no-channels-last"))


def masks(toy) -> tuple[str, str, str]:
    """Hashes of the logits of one image with dropout and without, and of the weights."""
    with ready(toy, "--model", "squeezenet1_1", batch=8, size=32) as (_, state, _):
        image = torch.ones(1, 3, 32, 32)
        dropped, whole = state.model.train()(image), state.model.eval()(image)
        return fingerprint([dropped.detach()]), fingerprint([whole.detach()]), fingerprint(state.model.state_dict())


def test_dropout_draws_other_masks_on_each_rank_of_equal_weights(two, toy):
    first, second = two.call(masks, toy)
    assert first[0] != second[0] and first[1:] == second[1:]


# compiled


def compilations(toy, folder, *more: str) -> tuple[int, int]:
    """Graphs that torch compiled before the clock started, and until the end of the run."""
    from torch._dynamo.utils import counters

    config = config_from(flags(toy, folder, "--compile", *more))
    with opened_job(config, resolved_schedule(config, ranks().world_size, print)) as job:
        before = counters["stats"]["unique_graphs"]
        trainer.fit(job)
        job.loader.close()
    return before, counters["stats"]["unique_graphs"]


ONE_SIZE = "[{'ep': 0, 'sz': 32, 'bs': 4, 'val_bs': 60}, {'ep': (0, 1), 'lr': 0.01}]"


@pytest.mark.slow
@pytest.mark.parametrize(
    "more", [["--whitening-epochs", "1"], ["--model", "resnet18", "--phases", ONE_SIZE]], ids=["cifarnet", "resnet18"]
)
def test_nothing_is_compiled_inside_the_clock(toy, tmp_path, more):
    """cifarnet: two sizes, and a layer that freezes between them, which ended the warm-up of two ranks. resnet18: the
    compiler outside of DDP."""
    with world(2, seconds=600) as two:
        for before, after in two.call(compilations, toy, tmp_path / "run", "--batch-size", "30", *more):
            assert 1 <= before == after
