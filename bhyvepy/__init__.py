"""bhyvepy: 64-bit Arm guests with FreeBSD's bhyveload, bhyve and bhyvectl.

Nothing is imported here: the commands must start quickly, and a floor that is
not needed must not be loaded.
"""

__version__ = "0.1.0"
