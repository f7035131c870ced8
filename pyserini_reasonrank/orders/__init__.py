"""Combination of orders and scores: voting, Kemeny, fusion with first-stage scores."""
