"""The commands, one file each. A file is named for its command (`list` would be `list_`)."""
