"""Readers of what other systems recorded: trackers, lock files, configuration tools, data versioning, containers.

One file per system. A reader is a module with ``NAME``, ``find`` and ``read`` (see ``protocol.py``), listed in
``registry.py``. Readers change nothing in the directory, execute and unpickle nothing, and use no network.
"""
