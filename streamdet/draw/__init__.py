"""Result -> annotated picture. See :class:`streamdet.draw.painter.Painter`."""

from streamdet.draw.painter import Painter

__all__ = ["Painter"]
