"""Floor 6: deciding by experiment.

``search/`` asks questions and knows nothing of what they are about; ``process`` runs one program and leaves nothing of it
behind; ``trial`` records it and says whether it is like A; an axis (``commits``, ``settings``, ``packages``, ``variables``,
``configuration``) turns a question into a candidate; ``session`` remembers every answer; ``drive`` leads the whole.
"""
