"""Reads files of voxels that are not NIfTI, and refuses by name what is no image."""
