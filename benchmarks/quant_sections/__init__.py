"""One file a section of the quant benchmark; each has ``run(quick) -> rows``."""
