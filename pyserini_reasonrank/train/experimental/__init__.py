"""Published methods that were not run at full size here: LaTRO, RARL, SELM, PRILoRA, curriculum."""
