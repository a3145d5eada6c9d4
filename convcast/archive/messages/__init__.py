"""Find GRIB messages in a publisher's file: by its index, or by reading the file."""
