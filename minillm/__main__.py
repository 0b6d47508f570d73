"""`python -m minillm`: the same as `minillm`, for where the command is not on the path.

Next:    minillm/course/cli.py
"""

import sys

from minillm.course.cli import main

if __name__ == "__main__":
    sys.exit(main())
