"""Networks for `--model planted_faults.py:NAME` that diverge, each for its own reason."""

import torch
from torch import nn


class Body(nn.Module):
    """A small network; `fault` sits between two of its layers."""

    def __init__(self, fault: nn.Module, classes: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(inplace=True))
        self.fault = fault
        self.head = nn.Linear(8, classes)

    def forward(self, images):
        return self.head(self.fault(self.stem(images)).mean((2, 3)))


class Root(nn.Module):
    def forward(self, x):
        return (x - 0.1).sqrt()  # a ReLU gives zeros


class RootAtZero(nn.Module):
    """Finite, but its gradient is not."""

    def forward(self, x):
        return x + (x - x.detach()).sqrt()


class Logarithm(nn.Module):
    def forward(self, x):
        return torch.log(x)


class LogLikelihood(nn.Module):
    """A loss of one's own, of which cross entropy is left with log p: its probabilities round to 0."""

    def forward(self, x):
        return torch.log(torch.softmax(1e4 * x, 1))


class NoFirstClass(nn.Module):
    """An infinite loss, whose gradient is finite."""

    def forward(self, x):
        return torch.cat([torch.full_like(x[:, :1], -torch.inf), x[:, 1:]], 1)


class Large(nn.Module):
    """Up to about 1e6, which fp32 holds and fp16 does not."""

    def __init__(self) -> None:
        super().__init__()
        self.wide = nn.Conv2d(8, 8, 1, bias=False)
        self.wide.weight.data.fill_(30)

    def forward(self, x):
        return self.wide(x * 1e3) * 1e-5


class SteepGradient(torch.autograd.Function):
    @staticmethod
    def forward(context, x):
        return x.clone()

    @staticmethod
    def backward(context, gradient):
        return gradient * 1e4 * 1e4 * 1e4 * 1e-12


class Steep(nn.Module):
    """The forward pass fits into fp16, the backward pass with no loss scale."""

    def forward(self, x):
        return SteepGradient.apply(x)


class Standardised(nn.Module):
    """Each channel of each image by its own mean and deviation: an image of one value has none."""

    def forward(self, images):
        deviation = images.std((2, 3), keepdim=True)
        return (images - images.mean((2, 3), keepdim=True)) / deviation


class BatchNormOfMine(nn.Module):
    def forward(self, x):
        pooled = x.mean((2, 3), keepdim=True)
        return (pooled - pooled.mean(0)) / (pooled.std(0) + 1e-5)


def uninitialised_layer() -> nn.Module:
    layer = nn.Conv2d(8, 8, 1)
    layer.weight.data.view(-1)[:3] = float("nan")  # what torch.empty may hold
    return layer


def root(classes):
    return Body(Root(), classes)


def root_at_zero(classes):
    return Body(RootAtZero(), classes)


def logarithm(classes):
    return Body(Logarithm(), classes)


def likelihood(classes):
    return nn.Sequential(Body(nn.Identity(), classes), LogLikelihood())


def no_first_class(classes):
    return nn.Sequential(Body(nn.Identity(), classes), NoFirstClass())


def large(classes):
    return Body(Large(), classes)


def steep(classes):
    return Body(Steep(), classes)


def one_value(classes):
    return nn.Sequential(Standardised(), Body(nn.Identity(), classes))


def batch_of_one(classes):
    return Body(BatchNormOfMine(), classes)


def uninitialised(classes):
    return Body(uninitialised_layer(), classes)


def steps_without_end(classes):
    """Has no fault, and no norm that would keep it in bounds at a learning rate that is too high."""
    layers = nn.Conv2d(3, 8, 3), nn.LeakyReLU(0.2), nn.Conv2d(8, 8, 3), nn.LeakyReLU(0.2)
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, classes))
