"""The command line, with one module for each verb. Only this package writes to the terminal."""
