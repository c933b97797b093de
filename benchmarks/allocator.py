"""What data_prep.workers.keep_freed_memory gains on this machine: images/s with it against without, in turn.

Each measurement is a process of its own, because the setting cannot be taken back.

    python benchmarks/allocator.py [--pairs 5] [--steps 8] [--batch 500] [--size 32]
"""

import argparse
import subprocess
import sys
import time

from pairs import interleaved, ratio_line


def main() -> None:
    options = parsed()
    if options.child:
        print(images_per_second(options))
        return
    with_it, without = (lambda: child(options, "keep")), (lambda: child(options, "default"))
    print(ratio_line("images/s, kept memory / default", interleaved(with_it, without, options.pairs)))


def child(options: argparse.Namespace, kind: str) -> float:
    sizes = [f"--{name}={getattr(options, name)}" for name in ("steps", "batch", "size")]
    done = subprocess.run(
        [sys.executable, __file__, "--child", kind, *sizes], capture_output=True, text=True, check=True
    )
    return float(done.stdout)


def images_per_second(options: argparse.Namespace) -> float:
    import torch
    import torch.nn.functional as F

    from data_prep.workers import keep_freed_memory
    from training.models.cifarnet import CifarNet

    if options.child == "keep" and not keep_freed_memory():
        sys.exit("this C library has no mallopt")
    model = CifarNet(10, 0.5).to(memory_format=torch.channels_last)
    images = torch.randn(options.batch, 3, options.size, options.size).to(
        torch.bfloat16, memory_format=torch.channels_last
    )
    begin = 0.0
    for step in range(options.steps + 2):
        if step == 2:  # the first ones choose kernels and grow the heap
            begin = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16):
            loss = F.cross_entropy(model(images).float(), torch.zeros(options.batch, dtype=torch.long))
        loss.backward()
        model.zero_grad(set_to_none=True)
    return options.steps * options.batch / (time.perf_counter() - begin)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--child", choices=("keep", "default"), help=argparse.SUPPRESS)
    for name, default in (("pairs", 5), ("steps", 8), ("batch", 500), ("size", 32)):
        parser.add_argument(f"--{name}", type=int, default=default)
    return parser.parse_args()


if __name__ == "__main__":
    main()
