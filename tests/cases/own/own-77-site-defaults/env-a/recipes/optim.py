import torch


def usual(parameters, lr, weight_decay=0.01):
    return torch.optim.AdamW(parameters, lr, weight_decay=weight_decay)
