"""The Python API in a Jupyter kernel, whose event loop is already running: the same cells as in a script."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

SETUP = """\
from pyserini_reasonrank import Reranker
reranker = Reranker("upr")
documents = [
    "Bread is baked from flour, water, salt and yeast.",
    "Moths keep a constant angle to the moon and so fly straight. A nearby lamp upsets this.",
    {"docid": "lamps", "text": "Lamps with a warm colour attract fewer insects than lamps that emit ultraviolet light."},
]
"""
SYNC = 'ranked = reranker.rank("why do moths circle around lamps", documents)\nprint(ranked[0].docid, len(ranked))'
ASYNC = 'again = await reranker.rank_async("how is bread baked", documents)\nprint(again[0].document)'
MANY = 'print(sorted(r[0].docid for r in reranker.rank_many([("moths", documents), ("bread", documents)])))'
TABLE = "ranked.to_dataframe()"
ERROR = 'Reranker("uprr")'


def test_a_notebook(tmp_path: Path) -> None:

    cells = [nbformat.v4.new_code_cell(source) for source in (SETUP, SYNC, ASYNC, MANY, TABLE, "reranker.close()")]
    notebook = nbformat.v4.new_notebook(cells=cells)
    NotebookClient(
        notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    outputs = [cell.outputs for cell in notebook.cells]
    assert [output["text"] for output in outputs[1]] == ["1 3\n"]
    assert [output["text"] for output in outputs[2]] == ["Bread is baked from flour, water, salt and yeast.\n"]
    assert [output["text"] for output in outputs[3]] == ["['0', '1']\n"]
    [table] = outputs[4]
    assert "first_stage_score" in table["data"]["text/html"]
    assert outputs[0] == outputs[5] == []  # nothing is printed beside results


def test_an_error_in_a_notebook_is_one_sentence(tmp_path: Path) -> None:
    cells = [nbformat.v4.new_code_cell("from pyserini_reasonrank import Reranker"), nbformat.v4.new_code_cell(ERROR)]
    notebook = nbformat.v4.new_notebook(cells=cells)
    with pytest.raises(CellExecutionError, match="did you mean 'upr'"):
        NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
