"""Generated data sets in the layout of BraTS, free to share."""
