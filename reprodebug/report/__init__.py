"""Floor 5: a Comparison as text, Markdown or JSON. Presents, decides nothing; every name from a run is made safe here."""
