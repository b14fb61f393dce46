"""`python -m mjrelay` is `mjrelay`."""

import sys


def start() -> None:
    """Run mjrelay. Ctrl-C ends it without a word even while its modules are loaded."""
    try:
        from mjrelay.cli import main  # noqa: PLC0415
    except KeyboardInterrupt:
        sys.exit(130)
    except ImportError as error:
        sys.exit(f"mjrelay is not installed completely: {error}")
    main()


if __name__ == "__main__":
    start()
