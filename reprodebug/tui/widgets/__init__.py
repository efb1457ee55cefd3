"""The widgets. None takes a string from a run as markup."""
