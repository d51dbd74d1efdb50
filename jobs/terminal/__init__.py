"""Parts that several verbs share: arguments, progress bars and the text that a run prints."""
