"""Orders and scores combined: votes over orders, Kemeny, fusion with first-stage scores."""
