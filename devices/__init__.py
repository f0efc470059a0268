"""Device models: one file a device, found by name through registry.py.

Installs as bhyvepy.devices (bhyvepy/devices is a symlink to this folder). Nothing
here runs vCPUs, parses command lines or knows the machine's memory map.
"""

if __name__ == "devices":  # the folder, not the package: see docs/style.md, Layout
    raise ImportError("import bhyvepy.devices, not the top-level folder 'devices'")
