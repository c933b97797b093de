"""Recipes for CIFAR-10, Imagenette and the toy set: minutes on a laptop's cores, or on one GPU."""

from training.config.config import Config

MUON_LR = 0.2  # peak of the Muon schedules; tuned at 0.15 to 0.24


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


def cifar10_94_fulcrum() -> Config:
    """The settings of Fulcrum's CIFAR-10 record (July 2026) for 94 % top-1.

    Command: python -m training DATA --recipe cifar10-94-fulcrum
    Differs: the clock counts all loading and validation, and the weights are fp32; no weight decay of the convolutions
        and the norms' biases; the growing interval of Muon's rescaling counts to the end of the schedule (there to the
        end of the decay); the learning rate of a step is that of its end (there its beginning); images are resized
        before they are normalised, in 256 levels, and the head begins as PyTorch's.
    """
    return Config(
        model="cifarnet-fulcrum",
        optimizer="muon",
        muon_precision="auto",
        muon_momentum=0.655,
        muon_coefficients="hiverge",
        muon_rescale_every=2,
        muon_rescale_growth=15,
        momentum=0.825,
        nesterov=True,
        no_bn_wd=True,
        **rates_of_a_sum(1536, 0.2255, bias_lr=0.0573, head_lr=0.5415, decay=1.0418e-6),
        label_smoothing=0.09,
        whitening_epochs=0.2,
        whitening_decay=True,
        lookahead=0.7,
        lookahead_every=4,
        lookahead_from=8.25,
        flip="alternating",
        shift=2,
        brightness=0.1399,
        contrast=0.1308,
        antialias=False,
        tta="flip-shift-25",
        eval_from=8,
        target="94",
    )


def imagenette_5() -> Config:
    """Imagenette in five epochs at 64, 96 and 128 px: a ResNet-18-D with BlurPool from scratch, on an image tree at
    128 px and its copy at 160 px before; with the mirror image at test time (stated in every report).

    Command: python -m data_prep resize DATA --sizes 160 && python -m training DATA --recipe imagenette-5
    Differs: the leaderboard's entry (87.43 %) has an xresnet50 and Ranger, and no mirror image at test time.
    """
    return imagenette(target="75", flip="alternating", tta="flip")


def imagenette_20() -> Config:
    """Imagenette in 20 epochs at 64, 96 and 128 px: the network of imagenette-5, with batches of 64 and the mirror
    image at test time (stated in every report).

    Command: python -m data_prep resize DATA --sizes 160 && python -m training DATA --recipe imagenette-20
    Differs: the leaderboard's entry (91.57 %) has an xresnet50 and Ranger, and no mirror image at test time.
    """
    return imagenette(target="87", flip="alternating", tta="flip")


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
    """airbench94_muon's settings, for a schedule with learning rates from MUON_LR and batches of `batch`."""
    return Config(
        optimizer="muon",
        muon_precision="auto",
        muon_momentum=0.6,
        momentum=0.85,
        nesterov=True,
        no_bn_wd=True,
        **rates_of_a_sum(batch, MUON_LR, bias_lr=0.053, head_lr=0.67, decay=2e-6),
        label_smoothing=0.2,
        flip="alternating",
        **settings,
    )


def rates_of_a_sum(batch: int, peak: float, bias_lr: float, head_lr: float, decay: float) -> dict[str, float]:
    """Settings for SGD's rates of a loss summed over the batch and logits scaled by 1/256 from unit weights; ours is a
    mean, scaled by 1/9 from torch's own initialisation. `peak` of the schedule. The weight decay of the head is
    `decay` * batch in units of the learning rate.
    """
    bias_lr, head_lr = bias_lr * batch, head_lr * batch * (9 / 256) ** 2
    return {"weight_decay": decay * batch / head_lr, "bias_lr": bias_lr / peak, "head_lr": head_lr / peak}


def imagenette(**settings) -> Config:
    return Config(
        model="timm/resnet18d",
        blurpool=True,
        optimizer="muon",
        muon_precision="auto",
        nesterov=True,
        no_bn_wd=True,
        init_bn0=True,
        weight_decay=5e-4,
        bias_lr=0.5,
        head_lr=0.5,
        label_smoothing=0.1,
        **settings,
    )
