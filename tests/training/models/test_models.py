"""Networks: shapes, whitening, initialisation, names."""

import re

import pytest
import timm
import torch
from refusals import training_refused
from tiny_run import flags
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torchvision import models
from torchvision.models.resnet import BasicBlock, Bottleneck

from phases import DataPhase, Schedule
from training.config.config import Config
from training.config.schedule import with_world_size
from training.engine.state import fingerprint
from training.errors import ConfigError
from training.models.build import build_model, check_model
from training.models.cifarnet import Block, CifarNet, conv3x3


def test_cifarnet_takes_every_size_from_9_px():
    model = CifarNet(7, 0.125)
    for size in (*range(9, 17), 20, 24, 31, 32, 33, 40):
        assert model(torch.randn(2, 3, size, size)).shape == (2, 7), size


@pytest.mark.parametrize(("width", "channels"), [(0.01, [8, 8, 8]), (0.5, [32, 128, 128]), (1.0, [64, 256, 256])])
def test_width_scales_the_channels_in_eights(width, channels):
    blocks = CifarNet(10, width).blocks
    assert [block.conv2.out_channels for block in blocks] == channels


def test_a_block_halves_the_image():
    assert Block(8, 16)(torch.randn(2, 8, 15, 14)).shape == (2, 16, 7, 7)


def test_whitened_images_have_the_identity_as_covariance():
    """Correlated channels and pixels in; 12 uncorrelated outputs of variance 1, and their negatives."""
    noise = torch.randn(200, 3, 13, 13, generator=torch.Generator().manual_seed(0))
    mixed = torch.einsum("ij,njhw->nihw", torch.tensor([[1.0, 0.6, 0.4], [0.0, 0.5, 0.3], [0.0, 0.0, 0.4]]), noise)
    images = nn.functional.avg_pool2d(mixed, 2, stride=1)
    model = CifarNet(10, 0.125)
    model.initialise_from(images, eps=0)
    with torch.no_grad():
        output = model.whiten(images).permute(1, 0, 2, 3).reshape(24, -1)
    second_moment = output[:12] @ output[:12].T / output.shape[1]
    assert torch.allclose(second_moment, torch.eye(12), atol=1e-3)
    assert torch.equal(output[12:], -output[:12])


class Eigh(TorchDispatchMode):
    """Where a matrix is decomposed."""

    devices: tuple[str, ...] = ()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if "eigh" in function.overloadpacket.__name__:
            self.devices += (args[0].device.type,)
        return function(*args, **(kwargs or {}))


def test_whitening_sets_up_no_solver_on_a_gpu():
    """Its library takes longer to start, on the clock, than the 12 x 12 matrix takes on the CPU."""
    with FakeTensorMode(), torch.device("cuda"), Eigh() as found:
        model = CifarNet(10, 0.125)
        model.initialise_from(torch.empty(20, 3, 12, 12))
        assert model.whiten.weight.device.type == "cuda"
    assert found.devices == ("cpu",)


def test_whitening_stays_finite_on_grey_images():
    model = CifarNet(10, 0.125)
    model.initialise_from(torch.randn(20, 1, 12, 12).expand(20, 3, 12, 12))
    assert model.whiten.weight.isfinite().all()


def test_whitening_and_norm_scales_are_frozen():
    frozen = {name for name, p in CifarNet(10, 0.125).named_parameters() if not p.requires_grad}
    scales = {f"blocks.{block}.norm{norm}.weight" for block in range(3) for norm in (1, 2)}
    assert frozen == {"whiten.weight"} | scales


def test_convolutions_begin_as_the_identity_on_their_first_channels():
    x = torch.randn(2, 8, 6, 6)
    with torch.no_grad():
        assert torch.equal(conv3x3(8, 20)(x)[:, :8], x)


@pytest.mark.parametrize("name", ["cifarnet", "resnet18"])
def test_the_seed_decides_the_weights(name):
    prints = [fingerprint(build_model(Config(model=name, width=0.25, seed=s), 6).state_dict()) for s in (1, 1, 2)]
    assert prints[0] == prints[1] != prints[2]


@pytest.mark.parametrize(
    ("name", "block"), [("resnet18", BasicBlock), pytest.param("resnet50", Bottleneck, marks=pytest.mark.slow)]
)
def test_init_bn0_makes_every_residual_block_the_identity(name, block):
    """Its output is relu(shortcut), also in training mode."""
    model = build_model(Config(model=name, init_bn0=True), 6)
    seen = []

    def look(module, inputs, output):
        shortcut = module.downsample(inputs[0]) if module.downsample else inputs[0]
        seen.append(torch.equal(output, torch.relu(shortcut)))

    blocks = [module for module in model.modules() if isinstance(module, block)]
    for module in blocks:
        module.register_forward_hook(look)
    with torch.no_grad():
        model(torch.randn(2, 3, 64, 64))
    assert len(blocks) == {"resnet18": 8, "resnet50": 16}[name] and seen == [True] * len(blocks)


LAST_NORM = {"resnet18": "bn2", "resnet50": "bn3", "resnet50d": "bn3"}
BLOCKS = {"resnet18": 8, "resnet50": 16, "resnet50d": 16}
OF_BOTH = [f"{library}{name}" for name in LAST_NORM for library in ("", "timm/") if name != "resnet50d" or library]


@pytest.mark.parametrize("name", [*OF_BOTH[:1], *(pytest.param(name, marks=pytest.mark.slow) for name in OF_BOTH[1:])])
def test_init_bn0_zeroes_the_last_norm_of_each_block_and_no_other(name):
    bare = name.removeprefix("timm/")
    for init_bn0 in (True, False):
        model = build_model(Config(model=name, init_bn0=init_bn0), 6)
        zero = {n for n, m in model.named_modules() if isinstance(m, nn.BatchNorm2d) and not m.weight.any()}
        blocks = {n.rpartition(".")[0] for n, _ in model.named_modules() if n.endswith(f".{LAST_NORM[bare]}")}
        assert len(blocks) == BLOCKS[bare]
        assert zero == ({f"{block}.{LAST_NORM[bare]}" for block in blocks} if init_bn0 else set())


@pytest.mark.parametrize("name", ["resnet18", pytest.param("resnet50", marks=pytest.mark.slow)])
def test_a_model_is_torchvisions_of_that_name(name):
    """Its weights by name, and the logits of equal weights."""
    ours, theirs = build_model(Config(model=name), 6).eval(), models.get_model(name, num_classes=6).eval()
    theirs.load_state_dict(ours.state_dict(), strict=True)
    images = torch.randn(2, 3, 32, 32)
    assert isinstance(ours, models.ResNet) and torch.equal(ours(images), theirs(images))


@pytest.mark.parametrize("name", ["timm/resnet18", pytest.param("timm/resnet50", marks=pytest.mark.slow), "resnet10t"])
def test_a_model_is_timms_of_that_name(name):
    """With --init-bn0, timm's own default, and the seed also its first weights, with the classifier."""
    ours = build_model(Config(model=name, init_bn0=True, seed=3), 6).eval()
    torch.manual_seed(3)
    theirs = timm.create_model(name.removeprefix("timm/"), num_classes=6).eval()
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(ours(images), theirs(images))


def test_drop_path_is_timms():
    """Training-mode logits with the same random numbers; none is dropped in evaluation."""
    ours = build_model(Config(model="timm/resnet18", drop_path=0.5, seed=3), 6)
    torch.manual_seed(3)
    theirs = timm.create_model("resnet18", num_classes=6, drop_path_rate=0.5, zero_init_last=False)
    plain, images = build_model(Config(model="timm/resnet18", seed=3), 6), torch.randn(8, 3, 32, 32)
    logits = []
    for model in (ours, theirs, plain):
        torch.manual_seed(0)
        logits.append(model(images))
    assert torch.equal(logits[0], logits[1]) and not torch.allclose(logits[0], logits[2])


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("resnet50", "resnet50 of torchvision has none; use timm/resnet50"),
        ("cifarnet", "cifarnet"),
        ("timm/vgg11", "vgg"),
    ],
)
def test_drop_path_of_a_model_that_has_none_is_one_line(name, advice):
    with pytest.raises(ConfigError, match=f"--drop-path: {advice}") as error:
        check_model(Config(model=name, drop_path=0.1), 6, {32})
    assert "\n" not in str(error.value)


def test_a_name_with_timm_before_it_is_looked_for_there():
    with pytest.raises(ConfigError, match=r"--model timm/resnet5: unknown model. Did you mean timm/resnet"):
        build_model(Config(model="timm/resnet5"), 6)


def test_without_init_bn0_no_scale_is_zero():
    model = build_model(Config(model="resnet18"), 6)
    assert all((m.weight == 1).all() for m in model.modules() if isinstance(m, nn.BatchNorm2d))


def test_init_bn0_draws_the_classifier_with_a_deviation_of_a_hundredth():
    fc = build_model(Config(model="resnet18", init_bn0=True), 1000).fc
    assert fc.out_features == 1000 and abs(fc.weight.std().item() - 0.01) < 1e-4


def test_an_unknown_model_is_answered_with_near_names():
    with pytest.raises(ConfigError, match=r"--model resnet5: unknown model. Did you mean .*resnet50") as error:
        build_model(Config(model="resnet5"), 6)
    assert "\n" not in str(error.value)


def test_a_name_that_both_libraries_know_is_proposed_once():
    with pytest.raises(ConfigError, match="Did you mean ") as error:
        build_model(Config(model="resnet5000"), 6)
    names = re.search(r"Did you mean (.*)\?", str(error.value))[1].split(", ")
    assert "resnet50" in names and len(set(names)) == len(names) == 3


@pytest.mark.parametrize("name", ["", "zzzzzzzz", "os.system", "get_model"])
def test_names_far_from_any_model(name):
    with pytest.raises(ConfigError, match="unknown model"):
        build_model(Config(model=name), 6)


def test_models_with_auxiliary_heads_return_plain_logits_while_they_train():
    model = build_model(Config(model="googlenet"), 6)
    assert model.training and model(torch.randn(2, 3, 64, 64)).shape == (2, 6)


@pytest.mark.parametrize(("name", "size"), [("cifarnet", 8), ("alexnet", 32)])
def test_a_size_below_what_the_network_takes_is_one_line(name, size):
    with pytest.raises(ConfigError, match=f"--model {name}: cannot take images of {size} px") as error:
        check_model(Config(model=name, width=0.125), 6, {224, size})
    assert "\n" not in str(error.value)


def test_large_images_are_checked_without_a_forward_pass():
    """A pass over real pixels took seconds above 1,000 px, and this one would need terabytes."""
    check_model(Config(model="resnet18"), 6, {100_000})
    with pytest.raises(ConfigError, match="--model alexnet: cannot take images of 32 px"):
        check_model(Config(model="alexnet"), 6, {32, 100_000})


LAST_ONE = "[{'ep': 0, 'sz': 64, 'bs': 4}, {'ep': 1, 'sz': 32, 'bs': 1}, {'ep': (0, 2), 'lr': 0.1}]"


@pytest.mark.slow
def test_one_image_a_step_with_batch_norm_at_one_pixel(toy, tmp_path, capsys):
    """One line before a run folder is made; a dry run and the probe say the same."""
    command = flags(toy, tmp_path / "run", "--model", "resnet18", "--phases", LAST_ONE)
    words = ["the phase at epoch 1", "'bs': 1, 'sz': 32, which is 1 image in a step (Expected more than 1 value"]
    for arguments in (command, ["probe", *command], [*command, "--dry-run"]):
        training_refused(capsys, arguments, *words, "'bs' of 2 or more, or a larger 'sz'")
    assert not (tmp_path / "run").exists()


def test_an_accumulated_part_of_one_image_with_batch_norm_at_one_pixel():
    with pytest.raises(ConfigError, match=r"1 image in a part of --accumulate 4 .* 'bs' of 8 or more"):
        check_model(Config(model="resnet18", accumulate=4), 6, {24}, [DataPhase(0, 24, 4)])


@pytest.mark.parametrize(("sz", "bs", "accumulate"), [(33, 1, 1), (32, 8, 4)])
def test_few_images_that_batch_norm_can_take(sz, bs, accumulate):
    phase = DataPhase(0, sz, bs)
    check_model(Config(model="resnet18", accumulate=accumulate), 6, {sz}, [phase])


def test_ranks_that_are_left_one_image_each():
    """The global batch stays when a run goes on with more devices."""
    schedule = with_world_size(Schedule.parse("[{'ep': 0, 'sz': 32, 'bs': 4}, {'ep': (0, 1), 'lr': 0.1}]"), 1, 4)
    with pytest.raises(ConfigError, match="'bs': 1, 'sz': 32"):
        check_model(Config(model="resnet18"), 6, {32}, schedule.data)


def test_check_model_accepts_what_runs():
    check_model(Config(width=0.125), 6, {9, 32})


@pytest.mark.parametrize("name", ["cifarnet", "squeezenet1_0"])
def test_init_bn0_is_refused_where_there_is_nothing_to_zero(name):
    with pytest.raises(ConfigError, match=r"--init-bn0: .*no residual blocks"):
        build_model(Config(model=name, init_bn0=True), 6)
