"""Networks: cifarnet, and any model of torchvision or timm by name, with BlurPool or without."""

__all__ = ["build", "flops", "layouts", "outputs"]
