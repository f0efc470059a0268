"""Completion for shells: a script that knows the options, the devices and the VMs.

    eval "$(bhyvectl --completion bash)"       zsh: the same with zsh
    bhyvectl --completion fish | source

The script is made from the commands' own tables, so it cannot name an option that is not
there; at the Tab key no Python is started: VMs are the folders of the VM directory.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable

from typer.main import get_command

from bhyvepy import vmmapi
from bhyvepy.devices import registry

PROGS = ("bhyve", "bhyveload", "bhyvectl")
# Options whose value is a file.
FILES = {"bhyve": "-k -l", "bhyveload": "-k -i -t", "bhyvectl": "--exits-plot"}


def options(prog: str) -> dict[str, str]:
    """The options that --help shows, with their help."""
    module = importlib.import_module(f"bhyvepy.cli.{prog}")
    found = {"--help": "Show the options."}
    for param in get_command(module.app).params:
        if param.param_type_name == "argument" or getattr(param, "hidden", False):
            continue
        flag = getattr(param, "is_flag", False)
        for name in param.opts:
            value = "" if flag or not name.startswith("--") else "="
            found[name + value] = (getattr(param, "help", None) or "").split("[default")[0].strip()
    if prog == "bhyvectl":
        for reg in (*vmmapi.general_registers(), *vmmapi.system_registers()):
            found[f"--get-{reg}"] = f"Register {reg}."
            found[f"--set-{reg}="] = f"Set register {reg}."
    return found


_BASH = """\
# Completion of bhyve, bhyveload and bhyvectl (bhyvectl --completion bash).
_bhyvepy_vms()
{{
	local dir=${{BHYVEPY_VMMDIR:-/dev/shm/bhyvepy-$(id -u)}} vm
	for vm in "$dir"/*/; do
		[ -d "$vm" ] && basename "$vm"
	done
}}

_bhyvepy()
{{
	local cmd=${{COMP_WORDS[0]##*/}} cur=${{COMP_WORDS[COMP_CWORD]}}
	local prev=${{COMP_WORDS[COMP_CWORD-1]}} options files
	# readline splits at '=' and ':'; so --vm=a is three words.
	if [ "$prev" = "=" ]; then prev=${{COMP_WORDS[COMP_CWORD-2]}}; fi
	if [ "$cur" = "=" ]; then cur=; fi
	case "$cmd" in
{cases}
	esac
	COMPREPLY=()
	case "$cur" in
	--vm=*)
		COMPREPLY=($(compgen -P --vm= -W "$(_bhyvepy_vms)" -- "${{cur#--vm=}}"))
		return ;;
	esac
	if [ "$cmd" = bhyve ] && [ "$prev" = -s ]; then
		local slot=${{cur%%,*}}
		case "$cur" in
		*,*) COMPREPLY=($(compgen -P "$slot," -W "{devices}" -- "${{cur#*,}}")) ;;
		*) COMPREPLY=($(compgen -W "help" -- "$cur")) ;;
		esac
		return
	fi
	case " $files " in
	*" $prev "*)
		COMPREPLY=($(compgen -f -- "$cur"))
		return ;;
	esac
	if [ "$prev" = --vm ] || {{ [ "$cmd" != bhyvectl ] && [ "${{cur#-}}" = "$cur" ]; }}; then
		COMPREPLY=($(compgen -W "$(_bhyvepy_vms)" -- "$cur"))
		return
	fi
	COMPREPLY=($(compgen -W "$options" -- "$cur"))
	case "${{COMPREPLY[0]-}}" in *=) compopt -o nospace 2>/dev/null ;; esac
}}
complete -F _bhyvepy {progs}
"""


def bash() -> str:
    """For bash."""
    cases = "\n".join(
        f'\t{prog}) options="{" ".join(options(prog))}" files="{FILES[prog]}" ;;' for prog in PROGS
    )
    devices = " ".join(registry.KNOWN)
    return _BASH.format(cases=cases, devices=devices, progs=" ".join(PROGS))


def zsh() -> str:
    """For zsh, which can read bash's once its own completion is on."""
    start = "(( $+functions[compdef] )) || { autoload -Uz compinit && compinit -i -D; }\n"
    return start + "autoload -U +X bashcompinit && bashcompinit\n" + bash()


def fish() -> str:
    """For fish."""
    vms = '"(path basename (test -n \\"$BHYVEPY_VMMDIR\\"; and echo $BHYVEPY_VMMDIR;'
    vms += ' or echo /dev/shm/bhyvepy-(id -u))/*/)"'
    lines = ["# Completion of bhyve, bhyveload and bhyvectl (bhyvectl --completion fish)."]
    for prog in PROGS:
        lines.append(f"complete -c {prog} -f" + ("" if prog == "bhyvectl" else f" -a {vms}"))
        files = FILES[prog].split()
        for name, text in options(prog).items():
            bare = name.rstrip("=")
            what = f"-l {bare[2:]}" if bare.startswith("--") else f"-s {bare[1:]}"
            more = ""
            if bare == "--vm":
                more = f" -x -a {vms}"
            elif bare == "-s":
                devices = " ".join(f"(seq 0 31),{name}" for name in registry.KNOWN)
                more = f' -x -a "help {devices}"'
            elif bare in files:
                more = " -r -F"
            elif name.endswith("="):
                more = " -x"
            quoted = text.replace("\\", "\\\\").replace("'", "\\'")
            lines.append(f"complete -c {prog} {what}{more} -d '{quoted}'")
    return "\n".join(lines) + "\n"


SHELLS: dict[str, Callable[[], str]] = {"bash": bash, "zsh": zsh, "fish": fish}
