"""Input rasters: their headers, their pixels, their place on the Earth, and the polygons and labels over them."""
