from torch import nn

class Critic(nn.Module):
    def __init__(self):
        super().__init__()
        self.q1 = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 1))
        self.q2 = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 1))
        self.value = nn.Linear(6, 1)
    def forward(self, s):
        return self.q1(s), self.q2(s), self.value(s)
