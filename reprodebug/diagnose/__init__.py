"""Why two runs differ: ranked causes with evidence, remedy and confidence."""
