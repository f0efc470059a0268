"""The commands: bhyveload, bhyve and bhyvectl. Options and output, no logic."""
