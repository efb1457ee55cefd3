class Base:
    lr = 0.4
    epochs = 6
    width = 16
    patience = 1
