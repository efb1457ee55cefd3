import copy

import torch
from torch import nn


class Tagger(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.stem = nn.Conv1d(3, width, 5, padding=2)
        self.norm = nn.BatchNorm1d(width)
        self.out = nn.Linear(width, 5)

    def forward(self, x):
        return self.out(torch.relu(self.norm(self.stem(x))).mean(-1))


class Teacher:
    """Exponential average of the student's weights; names the labels of unlabelled windows."""

    def __init__(self, student, decay):
        self.net = copy.deepcopy(student)
        self.decay = decay

    @torch.no_grad()
    def follow(self, student):
        for t, s in zip(self.net.parameters(), student.parameters()):
            t.mul_(self.decay).add_(s, alpha=1 - self.decay)

    @torch.no_grad()
    def labels(self, x, threshold):
        self.net.eval()
        conf, y = self.net(x).softmax(-1).max(-1)
        self.net.train()
        return y, conf > threshold

    @torch.no_grad()
    def agreement(self, student, x):
        return (self.net(x).argmax(-1) == student(x).argmax(-1)).float().mean().item()
