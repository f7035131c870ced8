"""Stands in the place of search.py and reports how it was called."""

import json
import multiprocessing
import sys

from pyserini_reasonrank import _startup

if __name__ == "__main__":
    finders = sys.meta_path.count(_startup.Finder)
    _startup.uninstall()
    child = multiprocessing.get_context("spawn").Process(target=print, args=("child",), kwargs={"flush": True})
    child.start()
    child.join()
    import pyserini

    print(
        json.dumps(
            {
                "host": __spec__.name.removesuffix(".__main__"),
                "argv": sys.argv[1:],
                "finders": finders,
                "pyserini": pyserini.__file__,
            }
        )
    )
    sys.exit(7)
