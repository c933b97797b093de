"""Looking inside a run (--inspect): what it confuses, its worst images, gradients of its layers, pictures."""

__all__ = ["build", "pictures", "suspects", "views"]
