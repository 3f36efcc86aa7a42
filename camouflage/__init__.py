"""The method of CAMOUFLaGE in torch and numpy: no host, no network, no nodes."""

VERSION = "0.1.0"
