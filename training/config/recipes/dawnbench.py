"""The progressive schedules of DAWNBench, 2018 to 2020, as whole recipes: ResNet-50 to 93 % top-5."""

from training.config.config import Config


def imagenet18_1() -> Config:
    """ImageNet in 109 minutes on one machine of 8 V100: the 2018 phase schedule of 28 epochs.

    Source: github.com/diux-dev/imagenet18 (fast.ai and DIUx, 2018), README.md and train.py.
    Command: torchrun --nproc-per-node=8 -m training DATA --recipe imagenet18-1
    Hardware: 8 x V100, 1 machine (p3.16xlarge)
    Expected: 93.00 % top-5 in 109:12 (min:s), a comment in train.py; not trained here
    Differs: bf16 where the GPU has it instead of fp16 with a fixed loss scale; the last partial batch is dropped.
    """
    return imagenet18()


def imagenet18_4() -> Config:
    """ImageNet in half an hour on 4 machines of 8 V100: the 2018 phase schedule of 30 epochs.

    Source: github.com/diux-dev/imagenet18, train.py (2018).
    Command: torchrun --nnodes=4 --nproc-per-node=8 ... -m training DATA --recipe imagenet18-4
    Hardware: 32 x V100, 4 machines (p3.16xlarge)
    Expected: 93.05 % top-5 in 29:44 (min:s); not trained here
    Differs: as imagenet18-1.
    """
    return imagenet18()


def imagenet18_8() -> Config:
    """ImageNet in 19 minutes on 8 machines of 8 V100: the 2018 phase schedule of 35 epochs.

    Source: github.com/diux-dev/imagenet18, train.py (2018).
    Command: torchrun --nnodes=8 --nproc-per-node=8 ... -m training DATA --recipe imagenet18-8
    Hardware: 64 x V100, 8 machines (p3.16xlarge)
    Expected: 93.0 % top-5 in 19:04 (min:s); not trained here
    Differs: as imagenet18-1.
    """
    return imagenet18()


def imagenet18_16() -> Config:
    """ImageNet in 18 minutes on 16 machines of 8 V100: the phase schedule handed in to DAWNBench.

    Source: github.com/diux-dev/imagenet18, train.py (2018), the schedule submitted to DAWNBench.
    Command: torchrun --nnodes=16 --nproc-per-node=8 ... -m training DATA --recipe imagenet18-16
    Hardware: 128 x V100, 16 machines (p3.16xlarge)
    Expected: 93.04 % top-5 in 16:08 (min:s) after prewarming; DAWNBench entry 18:05; not trained here
    Differs: as imagenet18-1.
    """
    return imagenet18()


def titan_rtx() -> Config:
    """ImageNet in 2.36 hours on 8 Titan RTX: the one-machine schedule from copies at 160 and 320 px.

    Source: Lambda, training ImageNet on 8 x Titan RTX, article of 2019-01-31.
    Command: torchrun --nproc-per-node=8 -m training DATA --recipe titan-rtx
    Hardware: 8 x Titan RTX, 1 machine
    Expected: 93.018 % top-5 in 2.36 h; not trained here
    Differs: as imagenet18-1.
    """
    return imagenet18()


def lambda_4x1080ti() -> Config:
    """ImageNet in 12.6 hours and for 19 dollars on 4 GTX 1080 Ti: the one-machine schedule, smaller.

    Source: Lambda, github.com/lambdal/imagenet18; DAWNBench entry of 2019-08-10.
    Command: torchrun --nproc-per-node=4 -m training DATA --recipe lambda-4x1080ti
    Hardware: 4 x GTX 1080 Ti, 1 machine
    Expected: 93.05 % top-5 in 12.66 h for $19.00; not trained here
    Differs: as imagenet18-1.
    """
    return imagenet18()


def alibaba_1() -> Config:
    """ImageNet in 22 minutes on one machine of 8 V100: from 96 px, with a momentum that goes down and up.

    Source: DAWNBench entry of Alibaba AIACC, 2020-03-10 (its JSON; no code was published).
    Command: torchrun --nproc-per-node=8 -m training DATA --recipe alibaba-1
    Hardware: 8 x V100-32G, 1 machine
    Expected: 93.05 % top-5, 75.58 % top-1 in 0.36046 h for $7.43; not trained here
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
