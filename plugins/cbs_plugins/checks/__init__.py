"""What `cbs-doctor` checks for the built-in plugins, one file each."""
