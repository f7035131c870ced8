"""Search with Faiss, which has a ``--rerank`` without a value."""

import argparse
import json
import sys

if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--topics", required=True)
    parser.add_argument("--rerank", action="store_true")
    parser.parse_args()
    print(json.dumps({"ran": "faiss", "argv": sys.argv[1:]}))
