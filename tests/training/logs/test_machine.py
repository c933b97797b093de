"""Facts of the machine and of the code, as the machine itself tells them."""

from training.logs.machine import cpu_name, nvml_of, package_version, source_digest


def test_the_processor_has_a_name():
    assert cpu_name().strip()


def test_a_package_that_is_not_there_has_no_version():
    assert package_version("no-such-package-at-all") is None and package_version("torch")


def test_the_same_code_has_the_same_digest():
    assert source_digest() == source_digest() and len(source_digest()) == 64


def test_nvml_is_ready_or_absent():
    nvml = nvml_of()
    assert nvml is None or nvml.nvmlDeviceGetCount() >= 0
