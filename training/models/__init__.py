"""Networks: cifarnet, any model of torchvision or timm by name, BlurPool and the average of the weights."""

__all__ = ["blurpool", "build", "ema"]
