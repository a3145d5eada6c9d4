"""The command line, one module a verb. Only this package writes to the terminal."""
