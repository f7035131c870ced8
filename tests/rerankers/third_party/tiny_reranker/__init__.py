"""A reranker of somebody else: its settings by an entry point, its prompt in its own package."""

from importlib.resources import files


def settings() -> dict[str, object]:
    return {
        "about": "Tiny: the best of four, with a prompt of its own",
        "judge": {"kind": "best", "tags": False},
        "strategy": {"name": "heapsort", "children": 3, "k": 5},
        "prompt": str(files(__name__) / "prompt.yaml"),
        "passage_tokens": 40,
        "sampling": {"max_tokens": 8},
    }
