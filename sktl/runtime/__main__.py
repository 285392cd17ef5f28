"""``python -m sktl.runtime`` predicts images with an exported model."""

import sys

from .command import main

if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)  # as a shell reports Ctrl-C
