"""Search with Lucene, as far as the command line goes."""

import argparse
import json
import sys

if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--topics", required=True)
    parser.add_argument("--bm25", action="store_true")
    parser.parse_args()
    print(json.dumps({"ran": "lucene", "argv": sys.argv[1:]}))
