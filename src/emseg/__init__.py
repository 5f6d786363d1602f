"""emseg: segment neurons and synapses in electron-microscopy volumes."""

__version__ = "0.1.0"
