"""Recipes for CIFAR-10, Imagenette and the toy set: minutes on a laptop's cores, or on one GPU."""

from training.config.config import Config

MUON_LR = 0.2  # peak of the Muon schedules; tuned at 0.15 to 0.24
LOOKAHEAD_DECAY = 0.95**5  # airbench's, at the end of its runs


def cifar10_demo() -> Config:
    """CIFAR-10 to 85 % top-1 on a laptop in about a minute: a half-width net, an epoch of small images, one of full.

    Command: python -m training DATA --recipe cifar10-demo
    Differs: half the width, two epochs, images that grow, and no test-time augmentation.
    """
    return airbench_muon(500, width=0.5, shift=1, target="85", stop_at_target=True)


def cifar10_demo_fixed() -> Config:
    """cifar10-demo at 32 px throughout, tuned for itself: what progressive resizing is compared with.

    Command: python -m training DATA --recipe cifar10-demo-fixed
    Differs: as cifar10-demo, but for the images.
    """
    return cifar10_demo()


def cifar10_94() -> Config:
    """CIFAR-10 to DAWNBench's 94 % top-1, with the mirror image at test time (stated in every report).

    Command: python -m training DATA --recipe cifar10-94
    Differs: 14 epochs at 24, 28 and 32 px; of its six views at test time only the mirror image.
    """
    return airbench_muon(1000, shift=2, target="94", tta="flip", eval_from=13)


def cifar10_94_gpu() -> Config:
    """CIFAR-10 to 94 % top-1 on a GPU: airbench94_muon's 200 steps of 2,000 images, with images that grow.

    Command: python -m training DATA --recipe cifar10-94-gpu --compile
    Differs: images of 24, 28 and 32 px; of its six views at test time only the mirror image; the clock counts loading
        and validation, which the source's does not. It has not run yet: take its settings as a start.
    """
    return airbench_muon(2000, shift=2, target="94", tta="flip", eval_from=7)


def cifar10_95() -> Config:
    """CIFAR-10 to 95 % top-1 with SGD and a wider net.

    Command: python -m training DATA --recipe cifar10-95
    Differs: block 1 has 96 channels (there 128); the learning rate peaks at epoch 3 (3.44); its lookahead, which feeds
        the average back into the weights, is an average that is only evaluated; no weight decay of the norms' biases,
        and the whitening layer's bias learns at their rate; of its six views at test time only the mirror image.
    """
    return airbench_sgd(width=1.5, lr=10, decay=0.0153, shift=2, target="95", eval_from=14)


def cifar10_96() -> Config:
    """CIFAR-10 to 96 % top-1 with SGD, a still wider net, stronger shifts and cutout.

    Command: python -m training DATA --recipe cifar10-96
    Differs: cifarnet has no third convolution and no residual connection in its blocks; batch norm's momentum is 0.4
        (there 0.1); the learning rate peaks at epoch 3 (3.1); and all that cifar10-95 says.
    """
    return airbench_sgd(width=2.0, lr=9, decay=0.012, shift=4, target="96", cutout=12, eval_from=30)  # cutout in pixels


def imagenette_5() -> Config:
    """Imagenette in five epochs at 64, 96 and 128 px: a ResNet-18-D with BlurPool from scratch, on an image tree and
    its copy at 160 px.

    Command: python -m data_prep resize DATA --sizes 160 && python -m training DATA --recipe imagenette-5
    Differs: the leaderboard's entry (87.43 %) has an xresnet50 and Ranger.
    """
    return imagenette(target="75")


def imagenette_20() -> Config:
    """Imagenette in 20 epochs at 64, 96 and 128 px: imagenette-5, four times as long.

    Command: python -m data_prep resize DATA --sizes 160 && python -m training DATA --recipe imagenette-20
    Differs: the leaderboard's entry has an xresnet50 and Ranger.
    """
    return imagenette(target="87")


def imagenette_80() -> Config:
    """Imagenette in 80 epochs at 64, 96 and 128 px, with mixup until the last tenth.

    Command: python -m data_prep resize DATA --sizes 160 && python -m training DATA --recipe imagenette-80
    Differs: the leaderboard's entry has an xresnet50 and Ranger.
    """
    return imagenette(target="90", mixup=0.2, mix_off_epoch=72)


def toy() -> Config:
    """The generated toy dataset to 90 % in seconds: for tests and for a machine without any dataset.

    Command: python -m data_prep toy DATA && python -m training DATA --recipe toy
    Differs: nothing to differ from.
    """
    return airbench_muon(60, width=0.25, shift=2, target="90")


def airbench_muon(batch: int, **settings) -> Config:
    """airbench94_muon's settings, for a schedule with learning rates from MUON_LR and batches of `batch`.

    Its SGD rates (bias 0.053, head 0.67) are for a loss summed over the batch and logits scaled by 1/256 from unit
    weights; ours is a mean, scaled by 1/9 from torch's own initialisation. The weight decay of its head is 2e-6 * batch
    in units of the learning rate.
    """
    bias_lr, head_lr = 0.053 * batch, 0.67 * batch * (9 / 256) ** 2
    return Config(
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


def airbench_sgd(lr: float, decay: float, **settings) -> Config:
    """airbench95's and 96's settings. `lr` and `decay` are the source's, per 1,024 images and decoupled: its SGD has
    lr / (1024 * (1 + 1 / (1 - momentum))) of a loss summed over 1,024 images, which is lr / 7.67 of our mean (the peak
    in the schedule), and decays by decay * 1024 / lr of the sum, decay / lr of the mean."""
    return Config(
        momentum=0.85,
        nesterov=True,
        no_bn_wd=True,
        weight_decay=decay / lr,
        bias_lr=64.0,
        label_smoothing=0.2,
        ema_decay=LOOKAHEAD_DECAY,
        ema_every=5,
        flip="alternating",
        tta="flip",
        **settings,
    )


def imagenette(**settings) -> Config:
    return Config(
        model="timm/resnet18d",
        blurpool=True,
        optimizer="muon",
        nesterov=True,
        no_bn_wd=True,
        init_bn0=True,
        weight_decay=5e-4,
        bias_lr=0.5,
        head_lr=0.5,
        label_smoothing=0.1,
        **settings,
    )
