import os, torch
from torch import nn
for h, s in (("ann", 1), ("bob", 2)):
    os.makedirs(f"homes/{h}/.cache/tinyhub")
    torch.manual_seed(s)
    torch.save(nn.Linear(6, 8).state_dict(), f"homes/{h}/.cache/tinyhub/stem-v1.bin")
