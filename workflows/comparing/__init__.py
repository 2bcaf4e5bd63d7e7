"""Two evaluations, or many networks, side by side."""
