"""What every other folder may use: warnings, paths, optional packages, state of the process, devices, progress."""
