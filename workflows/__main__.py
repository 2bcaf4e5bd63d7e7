"""`python -m workflows` is the `brats-unet` command, where the script is not installed, as in a packed bundle."""

from workflows.cli import main

if __name__ == "__main__":
    main()
