"""``python -m streamdet`` is ``streamdet``."""

import sys

from streamdet.cli import main

sys.exit(main())
