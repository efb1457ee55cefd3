"""Writes the toy molecules: node features and edges as raw arrays, the format of the real set."""
import json

import numpy as np

rng = np.random.default_rng(12)
graphs, nodes = 64, 9
x = rng.uniform(0, 40, (graphs * nodes, 4)).astype("<f4")
edges = np.concatenate([[(g * nodes + i, g * nodes + rng.integers(nodes)) for i in range(nodes)] for g in range(graphs)])
y = x.reshape(graphs, nodes, 4)[:, :, 0].mean(1)
x.tofile("nodes.f32")
edges.astype("<i8").tofile("edges.i64")
np.save("targets.npy", ((y - y.mean()) / y.std()).astype("<f4"))
json.dump({"graphs": graphs, "nodes": nodes, "features": 4}, open("meta.json", "w"))
