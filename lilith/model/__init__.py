"""The transformer: parameters, layers, attention, forward."""
