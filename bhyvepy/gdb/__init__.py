"""The gdb server behind bhyve's -G: packets, what gdb sees of a machine, the sessions."""
