"""The report: one HTML page that shows what a reranker did, made from runs and the files beside them."""
