import os
import queue
import threading
import time

import torch
from torch import nn

torch.manual_seed(0)
CHUNKS = [torch.randn(8, 6, generator=torch.Generator().manual_seed(n)) for n in range(12)]


def reader(todo, out):
    while True:
        try:
            n = todo.get_nowait()
        except queue.Empty:
            return
        time.sleep(os.urandom(1)[0] / 255 * 0.02)  # the disk
        out.put(CHUNKS[n])


def chunks():
    todo, out = queue.Queue(), queue.Queue()
    for n in range(len(CHUNKS)):
        todo.put(n)
    for _ in range(4):
        threading.Thread(target=reader, args=(todo, out), daemon=True).start()
    for _ in CHUNKS:
        yield out.get()


model = nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 1))
opt = torch.optim.SGD(model.parameters(), lr=0.1)
for epoch in range(2):
    for x in chunks():
        loss = (model(x).squeeze(1) - x.mean(1)).square().mean()
        opt.zero_grad()
        loss.backward()
        opt.step()
