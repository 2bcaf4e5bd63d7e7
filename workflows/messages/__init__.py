"""What people read: errors in one line, progress and tables."""
