"""Fast recipes for ResNet-50 on ImageNet with growing images: ffcv-imagenet's and Composer's mild one."""

from training.config.config import Config

CLASSES = 1000
COMPOSER_LR, COMPOSER_MOMENTUM, COMPOSER_DECAY = 2.048, 0.875, 5e-4  # of its decoupled SGD


def ffcv_16() -> Config:
    """ImageNet in 16 epochs from 160 to 192 px, evaluated at 256 px with the mirror image.

    Command: torchrun --nproc-per-node=8 -m training DATA --recipe ffcv-16
    Differs: reads JPEG files instead of its own (which hold smaller images); the learning rate of a step is taken at
        its end instead of its beginning; no weight decay on the four norms and the bias that its rule by name misses.
    """
    return ffcv(target="73", metric="top1")


def ffcv_40() -> Config:
    """ImageNet in 40 epochs from 160 to 192 px, evaluated at 256 px with the mirror image.

    Command: torchrun --nproc-per-node=8 -m training DATA --recipe ffcv-40
    Differs: as ffcv-16.
    """
    return ffcv(target="93", metric="top5")


def ffcv(**settings) -> Config:
    return Config(
        model="resnet50",
        momentum=0.9,
        weight_decay=1e-4,
        no_bn_wd=True,
        label_smoothing=0.1,
        blurpool=True,
        tta="flip",
        val_resize=256 / 224,  # its central crop of 224/256 of the short side, at any size
        **settings,
    )


def composer_mild() -> Config:
    """ImageNet in 28 epochs from 88 to 176 px with binary cross entropy, evaluated at 224 px.

    Command: torchrun --nproc-per-node=8 -m training DATA --recipe composer-mild
    Differs: its loss is summed over the classes, ours is their mean, so the learning rate is 1,000 times as large (for
        ImageNet's 1,000 classes only); its decay of 5e-4 a step, decoupled from momentum, is the coupled one that
        decays as much; sizes change from epoch to epoch instead of step to step; images are cut at their size, not
        shrunk from 176 px; blur goes before strided convolutions, not before the max pool; weights are initialised as
        torchvision does (there: norms uniform in 0 to 1, the classifier's bias -log 1000).
    """
    return Config(
        model="resnet50",
        target="75.9",
        momentum=COMPOSER_MOMENTUM,
        weight_decay=COMPOSER_DECAY * (1 - COMPOSER_MOMENTUM) / COMPOSER_LR / CLASSES,
        loss="bce",
        label_smoothing=0.08,
        ema_decay=0.5 ** (20 / 100),  # half of it after 100 steps
        ema_every=20,
        blurpool=True,
        val_resize=232 / 224,
    )
