"""Options: closed forms and implied volatility; trees, Monte Carlo, Heston, SABR, surfaces."""
