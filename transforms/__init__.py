"""What happens to a sample on its way into the network and out of it."""
