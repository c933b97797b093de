"""The progressive schedules of DAWNBench, 2018 to 2020, as whole recipes: ResNet-50 to 93 % top-5."""

from training.config.config import Config


def imagenet18_1() -> Config:
    """ImageNet in 109 minutes on one machine of 8 V100: the 2018 phase schedule of 28 epochs.

    Command: torchrun --nproc-per-node=8 -m training DATA --recipe imagenet18-1
    Differs: bf16 where the GPU has it instead of fp16 with a fixed loss scale; the last partial batch is dropped.
    """
    return imagenet18()


def imagenet18_4() -> Config:
    """ImageNet in half an hour on 4 machines of 8 V100: the 2018 phase schedule of 30 epochs.

    Command: torchrun --nnodes=4 --nproc-per-node=8 ... -m training DATA --recipe imagenet18-4
    Differs: as imagenet18-1.
    """
    return imagenet18()


def imagenet18_8() -> Config:
    """ImageNet in 19 minutes on 8 machines of 8 V100: the 2018 phase schedule of 35 epochs.

    Command: torchrun --nnodes=8 --nproc-per-node=8 ... -m training DATA --recipe imagenet18-8
    Differs: as imagenet18-1.
    """
    return imagenet18()


def imagenet18_16() -> Config:
    """ImageNet in 18 minutes on 16 machines of 8 V100: the phase schedule handed in to DAWNBench.

    Command: torchrun --nnodes=16 --nproc-per-node=8 ... -m training DATA --recipe imagenet18-16
    Differs: as imagenet18-1.
    """
    return imagenet18()


def titan_rtx() -> Config:
    """ImageNet in 2.36 hours on 8 Titan RTX: the one-machine schedule from copies at 160 and 320 px.

    Command: torchrun --nproc-per-node=8 -m training DATA --recipe titan-rtx
    Differs: as imagenet18-1.
    """
    return imagenet18()


def lambda_4x1080ti() -> Config:
    """ImageNet in 12.6 hours and for 19 dollars on 4 GTX 1080 Ti: the one-machine schedule, smaller.

    Command: torchrun --nproc-per-node=4 -m training DATA --recipe lambda-4x1080ti
    Differs: as imagenet18-1.
    """
    return imagenet18()


def alibaba_1() -> Config:
    """ImageNet in 22 minutes on one machine of 8 V100: from 96 px, with a momentum that goes down and up.

    Command: torchrun --nproc-per-node=8 -m training DATA --recipe alibaba-1
    Differs: the entry does not say where warm-up begins, how momentum moves, which copies of the images were read, or
        whether norms decay; lr 0 to 1.2, momentum against it, copies at 160 and 320 px and no decay of norms are ours.
        Its smallest object area of 0.1 is covered by random crops from 0.08.
    """
    return imagenet18(nesterov=True)


def imagenet18(**settings) -> Config:
    """The flags of the 2018 command (--init-bn0 --no-bn-wd) and its defaults."""
    return Config(
        model="resnet50",
        target="93",
        metric="top5",
        momentum=0.9,
        weight_decay=1e-4,
        no_bn_wd=True,
        init_bn0=True,
        rect_rule="2018",
        **settings,
    )
