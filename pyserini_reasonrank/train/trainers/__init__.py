"""The trainers: SFT, GRPO, DPO and preference pairs, over TRL."""
