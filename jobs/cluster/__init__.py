"""Everything that touches Ray: the pool of actors, the connection to a cluster, spot notices, pilots and metrics."""
