"""What maps a batch of slices to class scores."""
