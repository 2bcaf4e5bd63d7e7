"""The names of the files that a command writes, and where and how it may write them."""
