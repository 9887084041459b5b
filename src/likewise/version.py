"""The version, read by the build and by `likewise --version`."""

__version__ = "0.1.0"
