"""As in Pyserini: the flags go on through a shell, unquoted, and the status is lost."""

import os
import sys

os.system(f"{sys.executable} -m pyserini.search.lucene {' '.join(sys.argv[1:])}")
