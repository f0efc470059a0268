"""Guests: programs of our own and recipes that fetch real kernels.

This file only names the package. It installs as `bhyvepy.guests`; a top-level
`guests` on a user's machine is an accident, and is refused.
"""

if __name__ != "bhyvepy.guests":
    raise ImportError("import bhyvepy.guests, not " + __name__)
