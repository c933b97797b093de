"""Where datasets come from: CIFAR-10, ImageNet, Imagenette, and generated sets."""

__all__ = ["cifar10", "coco_collage", "coco_scenes", "imagenet", "imagenette", "toy"]
