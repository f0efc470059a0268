"""The commands: bhyveload, bhyve and bhyvectl. Options and output, no logic.

Ctrl-C while a command still loads its modules ends it there and then: no code of ours is in
place yet that would turn it into an exit status. _run.run() takes it over.
"""

import os.path
import signal
import sys

_COMMANDS = ("bhyve", "bhyvectl", "bhyveload")

if (
    os.path.basename(sys.argv[0]) in _COMMANDS
    and signal.getsignal(signal.SIGINT) is signal.default_int_handler
):
    signal.signal(signal.SIGINT, signal.SIG_DFL)
