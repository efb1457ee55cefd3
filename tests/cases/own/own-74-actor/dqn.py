"""DQN with the actor in its own thread, filling the replay memory while the learner samples from it."""
import argparse
import collections
import copy
import random
import threading
import time

import numpy as np
import torch
import torch.nn as nn


class Grid:
    def __init__(self, seed):
        self.r = np.random.default_rng(seed)
        self.reset()

    def reset(self):
        self.p = self.r.integers(0, 5, 2)
        return self.p / 5

    def step(self, a):
        self.p = np.clip(self.p + [(0, 1), (1, 0), (0, -1), (-1, 0)][a], 0, 5)
        done = bool((self.p == 5).all())
        return self.p / 5, float(done), done


class Actor(threading.Thread):
    def __init__(self, memory, seed):
        super().__init__(daemon=True)
        self.memory, self.env, self.r, self.stop = memory, Grid(seed), np.random.default_rng(seed + 1), False

    def run(self):
        s = self.env.reset()
        while not self.stop:
            a = int(self.r.integers(4))
            s2, rew, done = self.env.step(a)
            self.memory.append((s, a, rew, s2, done))
            s = self.env.reset() if done else s2
            time.sleep(0.0005)


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--seed", type=int, default=0)
    ap.add_argument("--updates", type=int, default=15)
    a = ap.parse_args()
    random.seed(a.seed); np.random.seed(a.seed); torch.manual_seed(a.seed)
    memory = collections.deque(maxlen=5000)
    actor = Actor(memory, a.seed)
    actor.start()
    q = nn.Sequential(nn.Linear(2, 32), nn.ReLU(), nn.Linear(32, 4))
    target = copy.deepcopy(q)
    opt = torch.optim.Adam(q.parameters(), lr=1e-3)
    while len(memory) < 100:
        time.sleep(0.001)
    for u in range(a.updates):
        batch = random.sample(list(memory), 16)
        s, act, rew, s2, done = (torch.tensor(np.array(v)) for v in zip(*batch))
        with torch.no_grad():
            y = rew.float() + 0.9 * target(s2.float()).max(1).values * ~done
        loss = nn.functional.mse_loss(q(s.float()).gather(1, act[:, None])[:, 0], y)
        opt.zero_grad(); loss.backward(); opt.step()
        if u % 5 == 4:
            target.load_state_dict(q.state_dict())
        time.sleep(0.01)
    actor.stop = True
    print("td", loss.item())


if __name__ == "__main__":
    main()
