"""Where functions run over many items: processes of this machine, or the machines of a Ray cluster."""

__all__ = ["base", "local", "on_ray"]
