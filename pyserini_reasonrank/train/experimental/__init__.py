"""Published methods that have not been run at full size: LaTRO, RARL, SELM, PRILoRA, curriculum."""
