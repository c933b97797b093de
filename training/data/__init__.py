"""From a dataset to batches: the sample plan, crops, augmentation and the loaders."""

__all__ = ["auto_augment", "crops", "dataset", "holdout", "image_tree", "loader", "memory", "sample_plan", "transforms"]
