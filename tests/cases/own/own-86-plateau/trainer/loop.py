import torch


class Trainer:
    def __init__(self, net, opt, loss, calls):
        self.net, self.opt, self.loss, self.calls = net, opt, loss, calls
        self.stop = False

    def fire(self, what, *a):
        for c in self.calls:
            getattr(c, what)(self, *a)

    def fit(self, train, valid, epochs):
        for e in range(epochs):
            self.net.train()
            for x, y in train:
                self.opt.zero_grad()
                l = self.loss(self.net(x), y)
                l.backward()
                self.opt.step()
            self.net.eval()
            with torch.no_grad():
                v = sum(self.loss(self.net(x), y).item() for x, y in valid) / len(valid)
            self.fire("on_epoch", e, v)
            if self.stop:
                break
