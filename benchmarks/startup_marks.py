"""The process that startup.py times: it runs a command and notes when what was reached.

    python benchmarks/startup_marks.py '{"started": SECONDS, "command": ["predict", …], "to_the_end": false}'

The command "optimiser" makes one of torch's.

Prints {mark: [wall seconds since `started`, CPU seconds of this process]}; without `to_the_end` it ends where the
network is called for the first time on data.
"""

import json
import os
import sys
import time

ORDER = json.loads(sys.argv[1])
marks = {}


def mark(name):
    """Note the time at which `name` is reached first."""
    marks.setdefault(name, (time.time() - ORDER["started"], time.process_time()))


def tell_and_end():
    """Print the marks, and end the process at once."""
    print(json.dumps(marks), flush=True)
    os._exit(0)


import torch, monai, ignite  # noqa: E401, E402, F401, I001  (the line that is measured)

mark("imports")
if not ORDER["command"]:
    tell_and_end()
if ORDER["command"] == ["optimiser"]:
    torch.optim.SGD([torch.zeros(1)])
    mark("end")
    tell_and_end()


def first_slice(module, _inputs):
    """A hook of the network: note that the first slice is computed."""
    # A training tries its network on an empty slice before it reads anything, with dropout off.
    if module.training == (ORDER["command"][0] == "train"):
        mark("first slice")
        if not ORDER["to_the_end"]:
            tell_and_end()


def marking(name, function):
    """`function`, which notes when it is called first."""

    def call(*arguments, **named):
        mark(name)
        return function(*arguments, **named)

    return call


from monai.bundle import ConfigWorkflow  # noqa: E402
from monai.transforms import LoadImage  # noqa: E402
from torch.nn.modules.module import register_module_forward_pre_hook  # noqa: E402

register_module_forward_pre_hook(first_slice)
ConfigWorkflow.run = marking("configured", ConfigWorkflow.run)
LoadImage.__call__ = marking("reading", LoadImage.__call__)

from workflows.cli import app  # noqa: E402

app(ORDER["command"], standalone_mode=False)
mark("end")
tell_and_end()
