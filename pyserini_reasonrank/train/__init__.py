"""Training rerankers: data and rewards are ours, the trainers are TRL's; prompts, fitting and parser are those that serve."""
