import fnmatch


def freeze(model, patterns):
    for n, p in model.named_parameters():
        p.requires_grad = not any(fnmatch.fnmatch(n, q) for q in patterns)
    return [p for p in model.parameters() if p.requires_grad]
