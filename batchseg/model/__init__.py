"""Models: bundles with their whole contract, the networks we build, and the backends that run them."""
