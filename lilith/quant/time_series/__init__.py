"""Time series by maximum likelihood: AR(1) and GARCH(1,1)."""
