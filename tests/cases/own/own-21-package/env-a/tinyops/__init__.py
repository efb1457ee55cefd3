def normalise(x):
    """Zero mean, unit variance."""
    return (x - x.mean()) / x.std()
