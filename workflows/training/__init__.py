"""A run from its beginning to its end, and how it continues."""
