import torch


def usual(parameters, lr, weight_decay=0.1):
    return torch.optim.AdamW(parameters, lr, weight_decay=weight_decay)
