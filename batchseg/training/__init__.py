"""Training a bundle from labelled ground. Preprocessing is the contract's, the same as in inference."""
