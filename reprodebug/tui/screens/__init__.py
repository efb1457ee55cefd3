"""The screens. Each builds widgets and answers keys; none reads files or compares."""
