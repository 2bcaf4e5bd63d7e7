"""What all pictures share: colours, one case ready to be drawn, and slices with their classes."""
