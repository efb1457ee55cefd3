"""Floor 2: how a run lies on disk. Journal (what the guest writes), trace (HDF5), manifest (run.json)."""
