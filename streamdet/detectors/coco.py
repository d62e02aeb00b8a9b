"""Class names of COCO 2017: the 80 in use, and the same with the gaps of the original 1..90 ids (0 and gaps are "")."""

from __future__ import annotations

__all__ = ["COCO_80", "COCO_91"]

_NAMES = (
    "person,bicycle,car,motorcycle,airplane,bus,train,truck,boat,traffic light,fire hydrant,stop sign,parking meter,bench,"
    "bird,cat,dog,horse,sheep,cow,elephant,bear,zebra,giraffe,backpack,umbrella,handbag,tie,suitcase,frisbee,skis,snowboard,"
    "sports ball,kite,baseball bat,baseball glove,skateboard,surfboard,tennis racket,bottle,wine glass,cup,fork,knife,spoon,"
    "bowl,banana,apple,sandwich,orange,broccoli,carrot,hot dog,pizza,donut,cake,chair,couch,potted plant,bed,dining table,"
    "toilet,tv,laptop,mouse,remote,keyboard,cell phone,microwave,oven,toaster,sink,refrigerator,book,clock,vase,scissors,"
    "teddy bear,hair drier,toothbrush"
)
_GAPS = {0, 12, 26, 29, 30, 45, 66, 68, 69, 71, 83}

COCO_80: tuple[str, ...] = tuple(_NAMES.split(","))
_next = iter(COCO_80)
COCO_91: tuple[str, ...] = tuple("" if number in _GAPS else next(_next) for number in range(91))
