"""What analysts open: Cloud Optimized GeoTIFFs with their overviews and styles."""
