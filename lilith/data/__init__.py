"""From documents to packed rows of tokens."""
