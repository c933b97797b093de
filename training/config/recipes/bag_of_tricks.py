"""Bag of tricks: linear scaling, warm-up, cosine, ResNet-50-D, smoothing, mixup; and LARS from small to large
batches. --sync-bn and --accumulate go with every recipe."""

from training.config.config import Config

LARS = Config(  # for every batch: the schedule alone has the batch and its learning rate
    model="resnet50",
    target="75.9",
    optimizer="lars",
    momentum=0.9,
    trust_coefficient=0.001,
    weight_decay=5e-5,
    no_bn_wd=True,
    label_smoothing=0.1,
    val_resize=256 / 224,
)


def bag_of_tricks() -> Config:
    """Bag of tricks: a ResNet-50-D in 200 epochs with warm-up, cosine, label smoothing and mixup.

    Command: torchrun --nproc-per-node=8 -m training DATA --recipe bag-of-tricks
    Differs: no jitter of brightness, contrast, saturation (0.4) and lighting (0.1).
    """
    return Config(
        model="resnet50d",
        target="93",
        metric="top5",
        momentum=0.9,
        nesterov=True,
        weight_decay=1e-4,
        no_bn_wd=True,
        init_bn0=True,
        label_smoothing=0.1,
        mixup=0.2,
        val_resize=256 / 224,
    )


def cosine_restarts() -> Config:
    """bag-of-tricks with warm restarts: cosine cycles of 10, 20, 40 and 80 epochs.

    Command: torchrun --nproc-per-node=8 -m training DATA --recipe cosine-restarts
    Differs: the paper has no warm-up; here five epochs of it come before the first cycle.
    """
    return bag_of_tricks()


def lars_256() -> Config:
    """LARS at a batch of 256: the smallest of one study from 256 to 4,096.

    Command: torchrun --nproc-per-node=8 -m training DATA --recipe lars-256
    Differs: norms and biases take plain SGD's step, as timm's LARS has it; random crops are torchvision's. LARC:
        --trust-clip --trust-coefficient 0.02, with the learning rates of SGD.
    """
    return LARS


def lars_512() -> Config:
    """LARS at a batch of 512.

    Command: torchrun --nproc-per-node=8 -m training DATA --recipe lars-512
    Differs: as lars-256.
    """
    return LARS


def lars_1024() -> Config:
    """LARS at a batch of 1,024.

    Command: torchrun --nproc-per-node=8 -m training DATA --recipe lars-1024
    Differs: as lars-256.
    """
    return LARS


def lars_2048() -> Config:
    """LARS at a batch of 2,048.

    Command: torchrun --nproc-per-node=8 -m training DATA --recipe lars-2048
    Differs: as lars-256.
    """
    return LARS


def lars_4096() -> Config:
    """LARS at a batch of 4,096: the largest of one study from 256 to 4,096.

    Command: torchrun --nproc-per-node=8 -m training DATA --recipe lars-4096
    Differs: as lars-256.
    """
    return LARS
