"""Files and measures of information retrieval: topics, corpora, runs, qrels, evaluation, run metadata."""
