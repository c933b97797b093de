"""Weights as the bytes of a file: a torch state dict, safetensors, ONNX. Each is checked by reading it back."""

import importlib.util
import io

import numpy as np
import torch
from torch import Tensor, nn

from training.errors import ConfigError
from training.evaluation.weight_files import need
from training.export.networks import TOLERANCE
from training.models.outputs import logits_of

SUFFIXES = {"torchvision": ".pt", "timm": ".pt", "torch": ".pt", "safetensors": ".safetensors", "onnx": ".onnx"}
NEEDED = {"safetensors": ("safetensors",), "onnx": ("onnx", "onnxscript")}  # packages
OPSET = 18  # the lowest that torch's exporter writes without converting


def check_packages(format: str) -> None:
    """Raises: ConfigError for a format whose packages are not installed."""
    need(f"--format {format}", *NEEDED.get(format, ()))


def torch_bytes(network: nn.Module) -> bytes:
    """A state dict in torch's own format, which torch.load(weights_only=True) reads."""
    buffer = io.BytesIO()
    torch.save(tensors_of(network), buffer)
    data = buffer.getvalue()
    check_same(network, torch.load(io.BytesIO(data), weights_only=True))
    return data


def safetensors_bytes(network: nn.Module, metadata: dict[str, str]) -> bytes:
    """The same in the safetensors format, with `metadata` in its header."""
    from safetensors.torch import load, save

    data = save(tensors_of(network), metadata={"format": "pt", **metadata})
    check_same(network, load(data))
    return data


def tensors_of(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().contiguous().clone() for name, value in network.state_dict().items()}


def check_same(network: nn.Module, read: dict[str, Tensor]) -> None:
    expected = network.state_dict()
    assert expected.keys() == read.keys(), "names changed on the way to the file"
    assert all(torch.equal(expected[name], read[name]) for name in expected), "weights changed on the way to the file"


class LogitsAlone(nn.Module):
    """Of a network of named outputs."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        return logits_of(self.network(images))


def returning_logits(network: nn.Module, images: Tensor) -> nn.Module:
    """`network` itself where it returns a tensor."""
    with torch.no_grad():
        return network if isinstance(network(images), Tensor) else LogitsAlone(network)


def onnx_bytes(network: nn.Module, images: Tensor, metadata: dict[str, str]) -> tuple[bytes, str]:
    """An ONNX model of opset OPSET with the input `images` (batch, 3, H, W), H and W those of `images`, any batch, and
    the output `logits`; and how it was checked: by onnx's checker, by its logits where onnxruntime is installed."""
    import onnx

    network = returning_logits(network, images)
    try:
        program = torch.onnx.export(
            network,
            (images,),
            dynamo=True,
            opset_version=OPSET,
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            input_names=["images"],
            output_names=["logits"],
            verbose=False,
        )
    except torch.onnx.OnnxExporterError as error:
        reason = str(error).strip().splitlines()[0][:200]
        raise ConfigError(f"--format onnx: torch cannot export this network ({reason}). Use another format") from error
    model = program.model_proto
    onnx.helper.set_model_props(model, metadata)
    data = model.SerializeToString()
    read = onnx.load_from_string(data)
    onnx.checker.check_model(read, full_check=True)
    assert [entry.version for entry in read.opset_import if not entry.domain] == [OPSET], "another opset was written"
    if importlib.util.find_spec("onnxruntime") is None:
        return data, "the file by onnx's checker; not by its logits, because onnxruntime is not installed"
    difference = logits_difference(data, network, images)
    if not difference <= 10 * TOLERANCE:
        raise ConfigError(f"--format onnx: onnxruntime's logits differ by {difference:.1e}. Use another format")
    return data, f"the file by onnx's checker and by onnxruntime, whose logits differ by at most {difference:.1e}"


@torch.no_grad()
def logits_difference(data: bytes, network: nn.Module, images: Tensor) -> float:
    """Of onnxruntime, relative to the largest logit; on the images, and on the first alone: the batch is free."""
    import onnxruntime

    session, differences = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"]), []
    for part in (images, images[:1]):
        expected, (found,) = network(part).numpy(), session.run(None, {"images": part.numpy()})
        differences.append(float(np.abs(found - expected).max() / max(np.abs(expected).max(), 1e-12)))
    return max(differences)
