"""report.html: one self-contained page about one or several runs."""

__all__ = ["document", "html", "page"]
