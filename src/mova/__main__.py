"""``python -m mova``: the command line, where its script is not on the path."""

from mova.cli.app import main

if __name__ == "__main__":
    main()
