"""`python -m training search`: the schedule that reaches a target soonest on this hardware, found on held-out training
images and confirmed on the test images with fresh seeds."""

__all__ = ["command"]
