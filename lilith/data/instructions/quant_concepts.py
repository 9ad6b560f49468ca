"""What the terms of the trade mean: answers that need no number and no tool."""

from __future__ import annotations

CONCEPTS: dict[str, tuple[str, ...]] = {
    "delta": (
        "Delta is how much an option's price changes for a small move of the underlying. It lies "
        "between zero and one for a call and between minus one and zero for a put, and it is the "
        "number of shares that hedges one option.",
        "It is the slope of the option's price in the underlying's price. A trader who sells a "
        "call and holds delta shares is hedged against small moves, until the delta changes.",
    ),
    "gamma": (
        "Gamma is how fast delta changes as the underlying moves. It is largest near the strike "
        "and close to expiry, and it decides how often a delta hedge must be adjusted.",
        "It is the curvature of the option's price. Holders of options have positive gamma: they "
        "gain from large moves in either direction, and pay for that by time decay.",
    ),
    "vega": (
        "Vega is how much an option's price changes when volatility changes. It is positive for "
        "calls and puts that one holds, and largest at the money and for long maturities.",
        "It measures the exposure to volatility. Mind the unit: some quote it per point of "
        "volatility, others per whole unit.",
    ),
    "theta": (
        "Theta is what an option gains or loses as time passes with all else equal. It is mostly "
        "negative for the holder, because there is less time for a favourable move.",
        "It is time decay. Against it stands gamma: what a hedged option loses in quiet times it "
        "earns back when the underlying moves as much as its volatility said.",
    ),
    "rho": (
        "Rho is how much an option's price changes with the interest rate. Calls gain from higher "
        "rates and puts lose, and it matters most for long maturities.",
    ),
    "implied volatility": (
        "Implied volatility is the volatility at which a pricing formula returns the market's "
        "price. It is the market's price of uncertainty in units that can be compared across "
        "strikes and maturities, and it need not equal the volatility that follows.",
        "One knows every input of Black-Scholes but the volatility, so one solves the formula for "
        "it. The result is quoted by strike and maturity, and its shape is called the smile.",
    ),
    "put-call parity": (
        "Put-call parity says that a call less a put of the same strike and expiry is a forward: "
        "the discounted forward price less the discounted strike. It needs no model, only the "
        "absence of arbitrage, and holds for European options.",
    ),
    "the Sharpe ratio": (
        "The Sharpe ratio is the mean return above the risk-free rate, divided by the standard "
        "deviation of returns. It is usually annualised, which multiplies it by the square root "
        "of the periods in a year, and it is unreliable for short or skewed records.",
        "It is reward for each unit of volatility. Compare it only between series measured alike, "
        "and remember that it treats gains and losses as equal risks.",
    ),
    "maximum drawdown": (
        "Maximum drawdown is the deepest fall of wealth from a former peak. It says what an "
        "investor could have lost by entering at the worst moment, and it grows with the length "
        "of the record.",
    ),
    "value at risk": (
        "Value at risk is the loss that is exceeded only with a small stated probability over a "
        "stated horizon. It says nothing of how bad the losses beyond it are; expected shortfall "
        "does.",
    ),
    "expected shortfall": (
        "Expected shortfall is the average loss in the worst cases, those beyond the value at "
        "risk. Unlike value at risk it rewards diversification, and it looks into the tail.",
    ),
    "the efficient frontier": (
        "The efficient frontier is the set of portfolios with the least risk for each expected "
        "return. Portfolios below it can be improved; those above it can not be reached with the "
        "same assets.",
    ),
    "risk parity": (
        "Risk parity weights assets so that each contributes the same share of the portfolio's "
        "risk. It needs no forecast of returns, and it holds more of calm assets than of volatile "
        "ones.",
    ),
    "overfitting in a backtest": (
        "Overfitting is tuning a strategy to the accidents of one history. Its signs are many "
        "parameters, many variants tried and results that fall apart out of sample. Hold data "
        "back, count the trials and prefer simple rules.",
    ),
    "look-ahead bias": (
        "Look-ahead bias is the use of information in a backtest that was not known at the time, "
        "such as today's close for today's trade. Lag every signal and use data as it was first "
        "published.",
    ),
    "early exercise": (
        "Early exercise is the right to exercise an American option before expiry. For a call on "
        "a share without dividends it never pays; for a put deep in the money it can, because the "
        "strike then earns interest.",
    ),
    "a barrier option": (
        "A barrier option starts or ends when the underlying touches a level. Because it pays in "
        "fewer cases it costs less than the plain option, and its hedge is difficult near the "
        "barrier.",
    ),
    "an Asian option": (
        "An Asian option pays on the average of the underlying over time instead of its last "
        "price. Averages move less than prices, so it usually costs less, and it is hard to "
        "manipulate near expiry.",
    ),
    "the standard error of a Monte Carlo price": (
        "It is the standard deviation of the simulated payoffs divided by the square root of the "
        "number of paths. To halve it takes four times the paths, unless a control variate or "
        "better sampling reduces the variance.",
    ),
}
