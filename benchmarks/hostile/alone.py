"""To be imported before anything else: this process will be forked, and runs the slimnet of this very checkout."""

import os
import sys

from hostile import ROOT

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[_name] = "1"  # a process with threads must not be forked
sys.path[:0] = [str(ROOT), str(ROOT / "cli")]
