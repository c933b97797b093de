"""From a dataset to batches: the sample plan, crops, augmentation and the loaders."""

__all__ = [
    "auto_augment",
    "auto_augment_ops",
    "crops",
    "dataset",
    "loader",
    "memory",
    "mixup",
    "sample_plan",
    "transforms",
]
