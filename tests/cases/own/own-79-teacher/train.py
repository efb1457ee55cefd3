import json
import sys

import torch
import torch.nn.functional as F

from models import Tagger, Teacher

cfg = json.load(open("config.json"))
for word in sys.argv[1:]:
    key, value = word.split("=")
    cfg[key] = type(cfg[key])(value)

torch.manual_seed(3)
g = torch.Generator().manual_seed(11)
x_lab, y_lab = torch.randn(64, 3, 40, generator=g), torch.randint(0, 5, (64,), generator=g)
x_un = torch.randn(256, 3, 40, generator=g) * 1.7 + 0.4
student = Tagger(cfg["width"])
teacher = Teacher(student, cfg["ema"])
opt = torch.optim.SGD(student.parameters(), lr=cfg["lr"], momentum=0.9)
for step in range(cfg["steps"]):
    xb, yb = x_lab[step % 4 * 16:][:16], y_lab[step % 4 * 16:][:16]
    loss = F.cross_entropy(student(xb), yb)
    if step >= cfg["warmup"]:
        xu = x_un[step * 16 % 240:][:16]
        y, keep = teacher.labels(xu, cfg["threshold"])
        loss = loss + 0.5 * (F.cross_entropy(student(xu + 0.05 * torch.randn_like(xu)), y, reduction="none") * keep).mean()
    opt.zero_grad()
    loss.backward()
    opt.step()
    teacher.follow(student)
    if cfg["agreement_every"] and (step + 1) % cfg["agreement_every"] == 0:
        student.eval()
        print(f"step {step} agreement {teacher.agreement(student, x_un[:32]):.3f}")
        student.train()
    print(f"step {step} loss {loss.item():.6f}")
