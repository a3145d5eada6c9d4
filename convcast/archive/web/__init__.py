"""Read files from servers over HTTP."""
