"""What a file says: one file a format, imported only when such a file is read."""
