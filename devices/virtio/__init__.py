"""virtio devices: queue.py (split rings), mmio.py (transport), one file a device type."""
