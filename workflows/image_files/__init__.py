"""Reads files of voxels: NIfTI, MetaImage, NRRD; refuses by name what is no image, and turns volumes."""
