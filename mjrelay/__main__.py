"""`python -m mjrelay` is `mjrelay`."""

from mjrelay.cli import main

if __name__ == "__main__":
    main()
