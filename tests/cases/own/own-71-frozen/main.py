import argparse
import random

import torch
from torch import nn
from torch.utils.data import DataLoader

from lib import conf as conf_mod
from lib.model import ChirpNet
from lib.synth import collate, dataset

ap = argparse.ArgumentParser()
ap.add_argument("--config", default="")
ap.add_argument("--set", action="append", default=[])
args = ap.parse_args()
C = conf_mod.load(args.config, args.set)

random.seed(C["seed"])
torch.manual_seed(C["seed"])
train = DataLoader(dataset(96, 0), C["train"]["batch"], shuffle=True, collate_fn=collate,
                   generator=torch.Generator().manual_seed(C["seed"]))
valid = DataLoader(dataset(30, 1), 30, collate_fn=collate)
model = ChirpNet(C["model"])
for name, p in model.named_parameters():
    if any(name.startswith(f) for f in C["train"]["freeze"]):
        p.requires_grad_(False)
decay = [p for p in model.parameters() if p.requires_grad and p.ndim > 1]
rest = [p for p in model.parameters() if p.requires_grad and p.ndim <= 1]
opt = torch.optim.AdamW([{"params": decay, "weight_decay": C["optim"]["weight_decay"]},
                         {"params": rest, "weight_decay": 0.0}], lr=C["optim"]["lr"])
sched = torch.optim.lr_scheduler.ReduceLROnPlateau(opt, factor=C["sched"]["factor"], patience=C["sched"]["patience"], threshold=0.5)
lossf = nn.CrossEntropyLoss(label_smoothing=C["loss"]["label_smoothing"])
accum = C["train"]["accum"]
best, bad = 1e9, 0
for epoch in range(C["train"]["epochs"]):
    model.train()
    for i, (x, n, y) in enumerate(train):
        loss = lossf(model(x, n), y) / accum
        loss.backward()
        if (i + 1) % accum == 0:
            nn.utils.clip_grad_norm_(model.parameters(), C["optim"]["grad_clip"])
            opt.step()
            opt.zero_grad()
    model.eval()
    with torch.no_grad():
        v = sum(lossf(model(x, n), y).item() for x, n, y in valid)
    sched.step(v)
    print(epoch, round(v, 4), opt.param_groups[0]["lr"])
