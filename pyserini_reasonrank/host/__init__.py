"""The modules that import Pyserini, here called the host. They run in the search process, the only one with a JVM."""
