"""A detector on a trained backbone: data, network, training and COCO's metric."""

__all__ = ["command"]
