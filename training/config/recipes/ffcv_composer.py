"""Fast recipes for ResNet-50 on ImageNet with growing images: ffcv-imagenet's and Composer's mild one."""

from training.config.config import Config

CLASSES = 1000
COMPOSER_LR, COMPOSER_MOMENTUM, COMPOSER_DECAY = 2.048, 0.875, 5e-4  # of its decoupled SGD


def ffcv_16() -> Config:
    """ImageNet in 16 epochs from 160 to 192 px, evaluated at 256 px with the mirror image.

    Source: github.com/libffcv/ffcv-imagenet, rn50_configs/rn50_16_epochs.yaml and train_imagenet.py.
    Command: torchrun --nproc-per-node=8 -m training DATA --recipe ffcv-16
    Hardware: 8 x A100, 1 machine
    Expected: 73.8 % top-1, 90.8 % top-5 in 14.9 minutes (its log: 91.83 % top-5); not trained here
    Differs: reads JPEG files instead of its own (which hold smaller images); the learning rate of a step is taken at
        its end instead of its beginning; no weight decay on the four norms and the bias that its rule by name misses.
    """
    return ffcv(target="73", metric="top1")


def ffcv_40() -> Config:
    """ImageNet in 40 epochs from 160 to 192 px, evaluated at 256 px with the mirror image.

    Source: github.com/libffcv/ffcv-imagenet, rn50_configs/rn50_40_epochs.yaml and train_imagenet.py.
    Command: torchrun --nproc-per-node=8 -m training DATA --recipe ffcv-40
    Hardware: 8 x A100, 1 machine
    Expected: 77.2 % top-1, 93.2 % top-5 in 35.6 minutes (its log: 93.70 % top-5); not trained here
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

    Source: github.com/mosaicml/examples, blogs/resnet: recipes/resnet50_mild.yaml and the run of its README
        (--scale_schedule_ratio 0.32 of 90 epochs).
    Command: torchrun --nproc-per-node=8 -m training DATA --recipe composer-mild
    Hardware: 8 x A100, 1 machine
    Expected: 76.19 % top-1; not trained here
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
