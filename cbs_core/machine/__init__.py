"""What the machine is and can: devices, memory, clocks, files. Nothing about pictures."""
