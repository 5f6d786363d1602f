import sys

from emseg.cli import main

# Child processes (loader workers, timed decodes) import this file anew.
if __name__ == "__main__":
    sys.exit(main())
