"""Run by the system's Python with QGIS: opens rasters as a user's QGIS does, and says what it made of them.

    python3 tests/qgis_probe.py JOB.json

The job is a list of {"file", "shot", "points": [[x, y], …], "crs"}; the answer on standard output is a list with what
each layer is, and the colours of the points in a picture of it, rendered in the coordinate system `crs`.
"""

import json
import math
import sys
from pathlib import Path

from qgis.core import (
    QgsApplication,
    QgsCoordinateReferenceSystem,
    QgsCoordinateTransform,
    QgsMapRendererParallelJob,
    QgsMapSettings,
    QgsProject,
    QgsRasterLayer,
)
from qgis.PyQt.QtCore import QSize
from qgis.PyQt.QtGui import QColor

SIDE_PX = 480


def probe(task):
    layer = QgsRasterLayer(task["file"], "probe")
    if not layer.isValid():
        return {"valid": False, "error": layer.error().message()}
    extent, crs = layer.extent(), QgsCoordinateReferenceSystem(task["crs"])
    provider = layer.dataProvider()
    renderer = layer.renderer()
    found = {
        "valid": True,
        "crs": layer.crs().authid(),
        "extent": [extent.xMinimum(), extent.yMinimum(), extent.xMaximum(), extent.yMaximum()],
        "size": [layer.width(), layer.height()],
        "renderer": renderer.type(),
        "legend": [[one.value, one.label, QColor(one.color).name()] for one in renderer.classes()]
        if renderer.type() == "paletted"
        else [[item[0], QColor(item[1]).name()] for item in renderer.legendSymbologyItems()],
        "nodata": provider.sourceNoDataValue(1) if provider.sourceHasNoDataValue(1) else None,
    }
    found["colours"] = rendered(layer, crs, task["points"], task.get("shot"))
    return found


def rendered(layer, crs, points, shot):
    """The colour at each point, and how opaque it is."""
    box = QgsCoordinateTransform(layer.crs(), crs, QgsProject.instance()).transformBoundingBox(layer.extent())
    settings = QgsMapSettings()
    settings.setLayers([layer])
    settings.setDestinationCrs(crs)
    settings.setExtent(box)
    settings.setOutputSize(QSize(SIDE_PX, math.ceil(SIDE_PX * box.height() / box.width())))
    settings.setBackgroundColor(QColor(0, 0, 0, 0))
    job = QgsMapRendererParallelJob(settings)
    job.start()
    job.waitForFinished()
    image = job.renderedImage()
    if shot:
        image.save(shot)
    colours = []
    for x, y in points:
        at = settings.mapToPixel().transform(x, y)
        pixel = image.pixelColor(int(at.x()), int(at.y()))
        colours.append([pixel.name(), pixel.alpha()])
    return colours


def main():
    application = QgsApplication([], False)
    application.initQgis()
    answers = [probe(task) for task in json.loads(Path(sys.argv[1]).read_text())]
    sys.stdout.write(json.dumps(answers) + "\n")
    application.exitQgis()


main()
