from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

ACT = {"gelu": nn.GELU, "relu": nn.ReLU, "silu": nn.SiLU}


class ChirpNet(nn.Module):
    def __init__(self, c):
        super().__init__()
        h = c["hidden"]
        self.proj = nn.Linear(2, h)
        self.act = ACT[c["activation"]]()
        self.rnn = nn.GRU(h, h, c["layers"], batch_first=True, dropout=c["dropout"])
        self.norm = nn.LayerNorm(h, eps=c["ln_eps"])
        self.head = nn.Linear(h, 3)

    def forward(self, x, lengths):
        x = self.act(self.proj(x))
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        _, h = self.rnn(packed)
        return self.head(self.norm(h[-1]))
