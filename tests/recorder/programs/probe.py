"""Runs a script and prints what it computed, by means that share no code with reprodebug.

    python probe.py SCRIPT [ARGS...]

Last line: a SHA-256 over every parameter and gradient after every optimizer step, and over the final state of every
random generator.
"""

import hashlib
import random
import runpy
import sys

import numpy as np
import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

digest = hashlib.sha256()
steps = 0


def after_step(optimizer, args, kwargs):
    global steps
    steps += 1
    for group in optimizer.param_groups:
        for p in group["params"]:
            for t in (p, p.grad):
                if t is not None:
                    digest.update(t.detach().to_dense().contiguous().view(torch.uint8).numpy().tobytes())
        digest.update(repr({k: v for k, v in group.items() if k != "params"}).encode())


register_optimizer_step_post_hook(after_step)
random.seed(11)  # scripts that leave a generator unseeded start it alike, so that a draw too many would show
np.random.seed(12)
sys.argv = sys.argv[1:]
sys.path[0] = ""
runpy.run_path(sys.argv[0], run_name="__main__")
if steps == 0:
    raise SystemExit("no optimizer step was seen")
digest.update(torch.get_rng_state().numpy().tobytes())
digest.update(repr(random.getstate()).encode())
np.set_printoptions(threshold=10**6)
digest.update(repr(np.random.get_state()).encode())
print("probe", steps, digest.hexdigest())
