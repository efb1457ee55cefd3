import os

import numpy as np


def edges(n=60):
    rng = np.random.default_rng(8)
    return {(int(a), int(b)) for a, b in rng.integers(0, n, (180, 2)) if a != b}


def operator(name, hops, n=60):
    """Normalised adjacency to the power of hops; slow for real graphs, so it is kept."""
    path = f"{name}.operator.npy"
    if not os.path.exists(path):
        a = np.eye(n)
        for i, j in sorted(edges(n)):
            a[i, j] = a[j, i] = 1.0
        d = a.sum(1) ** -0.5
        np.save(path, np.linalg.matrix_power(d[:, None] * a * d, hops).astype(np.float32))
    return np.load(path, mmap_mode="r")
