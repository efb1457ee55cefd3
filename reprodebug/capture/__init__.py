"""Floor 3: the parent. Starts COMMAND, describes its surroundings, and makes a run of the journals it left."""
