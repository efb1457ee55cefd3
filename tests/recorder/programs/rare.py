"""What the kitchen lacks: transforms, scripts, inference tensors, exceptions, threads, optimizers in the middle of backward."""

import gc
import hashlib
import threading
import warnings
import weakref

import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call, grad, jvp, vmap
from torch.utils.checkpoint import checkpoint

warnings.simplefilter("ignore")
torch.manual_seed(0)


def say(name, *tensors, more=""):
    m = hashlib.sha256()
    for t in tensors:
        m.update(t.detach().contiguous().view(torch.uint8).numpy().tobytes())
    print(name, m.hexdigest()[:16], more)


x, y = torch.randn(16, 8), torch.randn(16, 8)

# a closure that runs several times in one step; parametrisations
model = nn.Sequential(
    nn.utils.parametrizations.spectral_norm(nn.Linear(8, 8)), nn.ReLU(inplace=True),
    nn.utils.parametrizations.weight_norm(nn.Linear(8, 8)),
)  # fmt: skip
optimizer = torch.optim.LBFGS(model.parameters(), lr=0.1, max_iter=5)


def closure():
    optimizer.zero_grad()
    loss = F.mse_loss(model(x), y)
    loss.backward()
    return loss


for _ in range(3):
    optimizer.step(closure)
say("lbfgs", *model.parameters())

# torch.func
net = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 1))
parameters = {k: v.detach() for k, v in net.named_parameters()}
each = vmap(grad(lambda p, x, y: F.mse_loss(functional_call(net, p, (x,)), y)), in_dims=(None, 0, 0))
say("vmap of grad", *each(parameters, x, torch.randn(16, 1)).values())
say("jvp", jvp(net, (x,), (torch.ones_like(x),))[1])

# a step for each gradient, in the middle of backward
net2 = nn.Sequential(nn.Linear(8, 32), nn.GELU(), nn.Linear(32, 8))
steps = {p: torch.optim.Adam([p]) for p in net2.parameters()}


def step(p):
    steps[p].step()
    steps[p].zero_grad()


for p in net2.parameters():
    p.register_post_accumulate_grad_hook(step)
for _ in range(3):
    F.mse_loss(net2(x), y).backward()
say("steps in backward", *net2.parameters())


class Fails(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(8, 8)
        self.n = 0

    def forward(self, x):
        x = self.inner(x)
        self.n += 1
        if self.n % 2:
            raise ValueError
        return x


fails = nn.Sequential(Fails(), nn.Linear(8, 8))
for _ in range(4):
    try:
        say("after an exception", fails(x))
    except ValueError:
        pass

with torch.inference_mode():
    say("inference", net2(x), nn.Sequential(nn.Linear(8, 8), nn.ReLU(inplace=True))(x))
at = x.clone().requires_grad_()
(slope,) = torch.autograd.grad(net(at).sum(), at, create_graph=True)
(slope.norm(2, dim=1) - 1).pow(2).mean().backward()
say("gradient of a gradient", *[p.grad for p in net.parameters() if p.grad is not None])

found = {}
threads = [threading.Thread(target=lambda n=n: found.update({n: float(net2(x * n).sum())})) for n in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print("threads", [found[n].hex() for n in sorted(found)])

say("traced", torch.jit.trace(net2.eval(), x)(x), torch.fx.symbolic_trace(net2)(x))
say("quantised", torch.ao.quantization.quantize_dynamic(net2, {nn.Linear})(x))
lstm = nn.LSTM(8, 8, batch_first=True)
packed, _ = lstm(nn.utils.rnn.pack_padded_sequence(torch.randn(4, 5, 8), torch.tensor([5, 4, 3, 2]), batch_first=True))
packed.data.sum().backward()
say("packed", packed.data, *[p.grad for p in lstm.parameters()])
ragged = torch.nested.nested_tensor([torch.randn(2, 8), torch.randn(3, 8)], layout=torch.jagged)
say("nested", nn.Linear(8, 4)(ragged).values())
lazy = nn.Sequential(nn.LazyLinear(4), nn.ReLU())
say("lazy", lazy(x))
torch.utils.swap_tensors(lazy[0].weight, nn.Parameter(torch.ones(4, 8)))
say("swapped", lazy(x))
net2[0] = nn.Linear(8, 32)
say("replaced", net2.train()(x))


class Twice(torch.autograd.Function):
    @staticmethod
    def forward(ctx, a):
        return a * 2

    @staticmethod
    def backward(ctx, g):
        return g * 2


class Hooked(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(8, 8)

    def forward(self, x):
        return Twice.apply(self.inner(x)).add_(1)


hooked = Hooked()
hooked.register_full_backward_hook(lambda m, given, gone: say("hook", *[g for g in gone if g is not None]))
hooked.register_forward_hook(lambda m, args, out: out * 1.5)
out = hooked(x)
out.sum().backward(retain_graph=True)
out.sum().backward()
say("hooked", hooked.inner.weight.grad)

for width in (4, 600):
    made = nn.Linear(width, width)
    out = made(torch.randn(300, width))
    module, tensor = weakref.ref(made), weakref.ref(out)
    out.sum().backward()
    del made, out
    gc.collect()
    print("alive", module() is None, tensor() is None)

with torch.autograd.graph.save_on_cpu():
    F.mse_loss(net(x), torch.zeros(16, 1)).backward()
say("saved elsewhere", *[p.grad for p in net.parameters()])
bag = nn.EmbeddingBag(10, 4, mode="sum", sparse=True)
out = bag(torch.tensor([1, 2, 4, 5]), torch.tensor([0, 2]))
out.sum().backward()
say("bag", out)
again, at = nn.Linear(8, 8), x.clone().requires_grad_()
checkpoint(again, at, use_reentrant=True).sum().backward()
say("reentrant checkpoint", again.weight.grad, at.grad)
say("fft", torch.view_as_real(torch.fft.rfft(again(x))))
with torch.random.fork_rng():
    F.dropout(x)
print(torch.rand(1).item())
