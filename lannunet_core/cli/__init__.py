"""The command `lannunet`. Each sub-command lives in a module of its own, imported when it is called."""
