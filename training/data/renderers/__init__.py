"""How planned pictures become pixels: one module per kind of loader for image trees."""

__all__ = ["base", "torchvision"]
