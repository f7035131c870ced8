"""SFT, GRPO and DPO over TRL."""
