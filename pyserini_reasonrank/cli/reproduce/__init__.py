"""Two-click reproductions: conditions of ``conf/2cr``, their commands, verdicts, pages and logs."""
