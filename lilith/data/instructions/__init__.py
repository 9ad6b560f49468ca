"""Conversations written here: quant work, planning, code and plain talk, every figure computed."""
