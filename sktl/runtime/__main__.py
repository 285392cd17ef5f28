"""``python -m sktl.runtime`` predicts images with an exported model."""

import sys

from .command import main

if __name__ == "__main__":
    sys.exit(main())
