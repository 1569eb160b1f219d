"""The frame of the command line: program, options, help, progress, tables, signals, exit codes."""
