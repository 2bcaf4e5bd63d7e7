"""Looks at the data: pictures of a case or a data set, numbers, and one page that shows them."""
