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

    Source: T. He et al., arXiv:1812.01187, table 6 (mixup without distillation); GluonCV's command for
        resnet50_v1d, gluoncv/logs/classification/imagenet/resnet50_v1d-mixup.sh in github.com/dmlc/web-data.
    Command: torchrun --nproc-per-node=8 -m training DATA --recipe bag-of-tricks
    Hardware: 8 x V100, 1 machine
    Expected: 79.15 % top-1, 94.58 % top-5; not trained here
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

    Source: I. Loshchilov, F. Hutter, arXiv:1608.03983 (first cycle 10, each twice as long as the one before), on the
        settings of bag-of-tricks.
    Command: torchrun --nproc-per-node=8 -m training DATA --recipe cosine-restarts
    Hardware: 8 GPUs, 1 machine
    Expected: nothing published for these settings; not trained here
    Differs: the paper has no warm-up; here five epochs of it come before the first cycle.
    """
    return bag_of_tricks()


def lars_256() -> Config:
    """LARS at a batch of 256: the smallest of one study from 256 to 4,096.

    Source: NVIDIA's MLPerf ResNet-50 for two DGX A100 (batch 3,264, lr 10.5, eta 0.001, 37 epochs, square decay),
        scaled to the batch by the linear rule (arXiv:1706.02677, 2.1); LARS: arXiv:1708.03888.
    Command: torchrun --nproc-per-node=8 -m training DATA --recipe lars-256
    Hardware: 8 GPUs, 1 machine (MLPerf: 16 x A100)
    Expected: the source reaches MLPerf's 75.90 % top-1 at a batch of 3,264; nothing is published for this batch; not
        trained here
    Differs: norms and biases take plain SGD's step, as timm's LARS has it; random crops are torchvision's. LARC:
        --trust-clip --trust-coefficient 0.02, with the learning rates of SGD.
    """
    return LARS


def lars_512() -> Config:
    """LARS at a batch of 512.

    Source: as lars-256.
    Command: torchrun --nproc-per-node=8 -m training DATA --recipe lars-512
    Hardware: 8 GPUs, 1 machine
    Expected: as lars-256
    Differs: as lars-256.
    """
    return LARS


def lars_1024() -> Config:
    """LARS at a batch of 1,024.

    Source: as lars-256.
    Command: torchrun --nproc-per-node=8 -m training DATA --recipe lars-1024
    Hardware: 8 GPUs, 1 machine
    Expected: as lars-256
    Differs: as lars-256.
    """
    return LARS


def lars_2048() -> Config:
    """LARS at a batch of 2,048.

    Source: as lars-256.
    Command: torchrun --nproc-per-node=8 -m training DATA --recipe lars-2048
    Hardware: 8 GPUs, 1 machine
    Expected: as lars-256
    Differs: as lars-256.
    """
    return LARS


def lars_4096() -> Config:
    """LARS at a batch of 4,096: the largest of one study from 256 to 4,096.

    Source: as lars-256.
    Command: torchrun --nproc-per-node=8 -m training DATA --recipe lars-4096
    Hardware: 8 GPUs, 1 machine
    Expected: as lars-256
    Differs: as lars-256.
    """
    return LARS
