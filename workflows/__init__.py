"""What a person does with the data and the network, in the order they do it."""
