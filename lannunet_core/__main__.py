"""`python -m lannunet_core` is the command `lannunet`."""

from lannunet_core.cli import main

if __name__ == "__main__":
    main()
