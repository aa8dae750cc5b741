"""Wire formats: bytes to nouns and back, by contract.md, with every refusal a named class and never an exception."""
