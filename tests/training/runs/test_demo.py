"""What the demo says before it trains."""

import re

from training.runs.expectation import expectation


def test_a_line_tells_how_long_this_machine_will_take(toy):
    line = expectation(toy, "toy")
    assert re.fullmatch(r"This \w+ trains in (fp32|bf16|fp16): expect about \d+ s of training and validation\.", line)
