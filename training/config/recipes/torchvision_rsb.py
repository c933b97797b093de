"""Long recipes for ResNet-50 on ImageNet, for accuracy: torchvision's two, and the three of "ResNet strikes back"."""

from training.config.config import Config


def torchvision_v1() -> Config:
    """torchvision's first weights: plain SGD, the learning rate divided by ten every 30 epochs.

    Command: torchrun --nproc-per-node=8 -m training DATA --recipe torchvision-v1
    Differs: the last partial batch of an epoch is dropped.
    """
    return Config(
        model="resnet50",
        target="75.9",
        momentum=0.9,
        weight_decay=1e-4,
        val_resize=256 / 224,
    )


def torchvision_v2() -> Config:
    """torchvision's second weights: 600 epochs at 176 px with everything that helps.

    Command: torchrun --nproc-per-node=8 -m training DATA --recipe torchvision-v2
    Differs: the average of the weights is an average from the first step on (there a copy of the weights while the
        learning rate warms up), its decay worked out for 1,024 images a step and 600 epochs (for others give
        --ema-decay 1 - 2e-5 * images * 32 / epochs); no weight decay on the classifier's bias; the last partial batch
        is dropped.
    """
    return Config(
        model="resnet50",
        target="93",
        metric="top5",
        momentum=0.9,
        weight_decay=2e-5,
        no_bn_wd=True,
        label_smoothing=0.1,
        mixup=0.2,
        cutmix=1.0,
        policy="trivialaugment",
        random_erasing=0.1,
        repeated_augmentation=4,
        ema_decay=1 - (1 - 0.99998) * 1024 * 32 / 600,  # rescaled by its script: global batch * steps / epochs
        ema_every=32,
        val_resize=232 / 224,
    )


def rsb_a1() -> Config:
    """ResNet strikes back, procedure A1: 600 epochs at 224 px with LAMB and binary cross entropy.

    Command: torchrun --nproc-per-node=4 -m training DATA --recipe rsb-a1
    Differs: timm's ten epochs of cool-down at the end are left out; the targets of mixed images stay soft (the paper
        makes each mixed class a whole one, as timm's --bce-target-thresh 0.2 and here --bce-threshold 0.2 do, which
        also undoes the smoothing); RandAugment moves pictures bilinearly (there bicubically).
    """
    return rsb(weight_decay=0.01, label_smoothing=0.1, mixup=0.2, **RSB_LONG)


def rsb_a2() -> Config:
    """ResNet strikes back, procedure A2: 300 epochs at 224 px with LAMB and binary cross entropy.

    Command: torchrun --nproc-per-node=4 -m training DATA --recipe rsb-a2
    Differs: as rsb-a1.
    """
    return rsb(weight_decay=0.02, mixup=0.1, **RSB_LONG)


def rsb_a3() -> Config:
    """ResNet strikes back, procedure A3: 100 epochs at 160 px, evaluated at 224 px.

    Command: torchrun --nproc-per-node=4 -m training DATA --recipe rsb-a3
    Differs: as rsb-a1.
    """
    return rsb(weight_decay=0.02, mixup=0.1, policy_magnitude=6.0)


RSB_LONG = {"policy_magnitude": 7.0, "repeated_augmentation": 3, "drop_path": 0.05}


def rsb(**settings) -> Config:
    """What A1, A2 and A3 have in common."""
    return Config(
        model="timm/resnet50",
        init_bn0=True,  # timm's default
        target="93",
        metric="top5",
        optimizer="lamb",
        no_bn_wd=True,
        loss="bce",
        cutmix=1.0,
        policy="timm-randaugment",
        policy_magnitude_std=0.5,
        policy_ops=2,
        interpolation="bicubic",
        val_interpolation="bicubic",
        val_resize=1 / 0.95,  # timm's crop ratio
        **settings,
    )
