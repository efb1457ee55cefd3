class Callback:
    def on_epoch(self, tr, e, v):
        pass


class Plateau(Callback):
    def __init__(self, patience=1, factor=0.5):
        self.best, self.bad, self.patience, self.factor = float("inf"), 0, patience, factor

    def on_epoch(self, tr, e, v):
        if v < self.best:
            self.best, self.bad = v, 0
        else:
            self.bad += 1
        if self.bad > self.patience:
            for g in tr.opt.param_groups:
                g["lr"] *= self.factor
            self.bad = 0


class Stopper(Callback):
    def __init__(self, patience=5):
        self.patience, self.bad, self.best = patience, 0, float("inf")

    def on_epoch(self, tr, e, v):
        self.bad = 0 if v < self.best else self.bad + 1
        self.best = min(self.best, v)
        tr.stop = self.bad >= self.patience


class History(Callback):
    def __init__(self):
        self.v = []

    def on_epoch(self, tr, e, v):
        self.v.append(v)
