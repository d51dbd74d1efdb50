"""The files that analysts open: the Zarr of each scene, its Cloud Optimized GeoTIFFs, and their sidecars."""
