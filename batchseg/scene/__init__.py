"""Input rasters: what their headers say, how their pixels are read, where they lie on the Earth."""
