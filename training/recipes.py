"""Settings by name: functions that return a Config. Any flag on the command line goes on top."""

from dataclasses import replace

from training.config import Config


def cifar10_demo() -> Config:
    """CIFAR-10 to 85 % top-1 on a laptop in about a minute: a half-width net, images growing in size.

    Source: airbench94_muon (K. Jordan, github.com/KellerJordan/cifar10-airbench) with our phase schedule; no test-time
    augmentation. Command: python -m training DATA --recipe cifar10-demo
    """
    return Config(recipe="cifar10-demo", phases="cifar10-demo", width=0.5, target="85", stop_at_target=True, **AIRBENCH)


def cifar10_demo_fixed() -> Config:
    """cifar10-demo at 32 px throughout, tuned for itself: what progressive resizing is compared with.

    Command: python -m training DATA --recipe cifar10-demo-fixed
    """
    return replace(cifar10_demo(), recipe="cifar10-demo-fixed", phases="cifar10-demo-fixed")


def cifar10_94() -> Config:
    """CIFAR-10 to DAWNBench's 94 % top-1, with the mirror image at test time (stated in every report).

    Source: airbench94_muon with our phase schedule. Command: python -m training DATA --recipe cifar10-94
    """
    return Config(recipe="cifar10-94", phases="cifar10-94", target="94", tta="flip", eval_from=9, **AIRBENCH)


def toy() -> Config:
    """The generated toy dataset to 90 % in seconds: for tests and for a machine without any dataset.

    Command: python -m data_prep toy DATA && python -m training DATA --recipe toy
    """
    return Config(recipe="toy", phases="toy", width=0.25, target="90", **AIRBENCH)


AIRBENCH = {
    "optimizer": "muon",
    "muon_momentum": 0.6,
    "momentum": 0.85,
    "nesterov": True,
    "weight_decay": 0.006,
    "no_bn_wd": True,
    "bias_lr": 0.053 / 0.24,
    "head_lr": 0.67 / 0.24,
    "label_smoothing": 0.2,
    "shift": 2,
    "flip": "alternating",
}

RECIPES = {"cifar10-demo": cifar10_demo, "cifar10-demo-fixed": cifar10_demo_fixed, "cifar10-94": cifar10_94, "toy": toy}


def recipe_config(name: str) -> Config:
    """The Config of a known recipe; the plain defaults for ''."""
    return RECIPES[name]() if name else Config()


def recipe_lines() -> list[str]:
    """Name, first sentence of the docstring."""
    return [f"{name:14} {(function.__doc__ or '').strip().splitlines()[0]}" for name, function in RECIPES.items()]
