"""Settings by name: functions that return a Config. Any flag on the command line goes on top."""

from dataclasses import replace

from training.config import Config

MUON_LR = 0.2  # peak of the schedules below; tuned at 0.15 to 0.24


def cifar10_demo() -> Config:
    """CIFAR-10 to 85 % top-1 on a laptop in about a minute: a half-width net, an epoch of small images, one of full.

    Source: airbench94_muon (K. Jordan, github.com/KellerJordan/cifar10-airbench) with our phase schedule; no test-time
    augmentation. Command: python -m training DATA --recipe cifar10-demo
    Two EPYC cores: 86.1 % after 58 s (README, "Speed").
    """
    return airbench(500, recipe="cifar10-demo", width=0.5, shift=1, target="85", stop_at_target=True)


def cifar10_demo_fixed() -> Config:
    """cifar10-demo at 32 px throughout, tuned for itself: what progressive resizing is compared with.

    Command: python -m training DATA --recipe cifar10-demo-fixed. Two EPYC cores: 87.3 % after 81 s.
    """
    return replace(cifar10_demo(), recipe="cifar10-demo-fixed", phases="cifar10-demo-fixed")


def cifar10_94() -> Config:
    """CIFAR-10 to DAWNBench's 94 % top-1, with the mirror image at test time (stated in every report).

    Source: airbench94_muon with our phase schedule. Command: python -m training DATA --recipe cifar10-94
    Two EPYC cores: 94.1 % after 17 minutes.
    """
    return airbench(1000, recipe="cifar10-94", shift=2, target="94", tta="flip", eval_from=13)


def imagenette_5() -> Config:
    """Imagenette in five epochs at 64, 96 and 128 px: a ResNet-18 from scratch on an image tree and its copy at 160 px.

    Source: the five-epoch, 128 px task of fast.ai's Imagenette leaderboard, with our schedule and Muon.
    Command: python -m data_prep resize DATA --sizes 160 && python -m training DATA --recipe imagenette-5
    """
    return Config(
        recipe="imagenette-5",
        target="75",
        phases="imagenette-5",
        model="resnet18",
        optimizer="muon",
        nesterov=True,
        no_bn_wd=True,
        init_bn0=True,
        weight_decay=5e-4,
        bias_lr=0.5,
        head_lr=0.5,
        label_smoothing=0.1,
    )


def toy() -> Config:
    """The generated toy dataset to 90 % in seconds: for tests and for a machine without any dataset.

    Command: python -m data_prep toy DATA && python -m training DATA --recipe toy
    """
    return airbench(60, recipe="toy", width=0.25, shift=2, target="90")


def airbench(batch: int, recipe: str, **settings) -> Config:
    """airbench94_muon's settings, for the schedule named `recipe`: learning rate from MUON_LR, batches of `batch`.

    Its SGD rates (bias 0.053, head 0.67) are for a loss summed over the batch and logits scaled by 1/256 from unit
    weights; ours is a mean, scaled by 1/9 from torch's own initialisation. The weight decay of its head is 2e-6 * batch
    in units of the learning rate.
    """
    bias_lr, head_lr = 0.053 * batch, 0.67 * batch * (9 / 256) ** 2
    return Config(
        recipe=recipe,
        phases=recipe,
        optimizer="muon",
        muon_momentum=0.6,
        momentum=0.85,
        nesterov=True,
        no_bn_wd=True,
        weight_decay=2e-6 * batch / head_lr,
        bias_lr=bias_lr / MUON_LR,
        head_lr=head_lr / MUON_LR,
        label_smoothing=0.2,
        flip="alternating",
        **settings,
    )


RECIPES = {
    "cifar10-demo": cifar10_demo,
    "cifar10-demo-fixed": cifar10_demo_fixed,
    "cifar10-94": cifar10_94,
    "imagenette-5": imagenette_5,
    "toy": toy,
}


def recipe_config(name: str) -> Config:
    """The Config of a known recipe; the plain defaults for ''."""
    return RECIPES[name]() if name else Config()


def recipe_lines() -> list[str]:
    """Name, first sentence of the docstring."""
    return [f"{name:18} {(function.__doc__ or '').strip().splitlines()[0]}" for name, function in RECIPES.items()]
