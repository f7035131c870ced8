"""All that knows Pyserini: each module here runs in the search process, which alone holds a JVM."""
