"""The page docs/training.md: how to train, and every key of a training recipe with its default.

`make docs` writes it: `python -m batchseg.training.document docs/training.md`.
"""

from __future__ import annotations

import sys
from pathlib import Path

from batchseg.egress import write_text
from batchseg.recipe.document import section
from batchseg.training.train_recipe import TrainRecipe

HEAD = """# Train and distil your own models

    batchseg train town.yaml models/town-heavy
    batchseg distill student.yaml models/town-bulk
    batchseg model tune models/town-bulk --on scene.tif

A training recipe names scenes to train on and scenes to measure on. A scene is never divided between the two, so the
bundle is measured on ground that it has never seen. Scenes are rasters with class ids on the same grid, or seeds of
`batchseg synth`. The smallest recipe for rasters:

```yaml
name: town-heavy
tier: heavy
architecture: {kind: segformer, size: b0, decoder: 128, detail: 64}
halo_px: 32
classes:
  - {id: 0, name: ground, rgb: [214, 190, 138]}
  - {id: 1, name: building, rgb: [196, 64, 52]}
train: {rasters: [{image: a.tif, labels: a_labels.tif}, {image: b.tif, labels: b_labels.tif}]}
validate: {rasters: [{image: c.tif, labels: c_labels.tif}]}
gsd_m: [0.3, 0.8]
```

- `gsd_m` is the range of pixel sizes, in metres on the ground, that the bundle is for. The pixels of all rasters must
  lie within it, and a run refuses a scene whose pixels do not.
- These rasters hold bytes in bands called red, green and blue. Other bands need `bands` or `take`. Wider data types
  need `dtype` and `range`, or `scale`, which maps their values into bytes.
- Ctrl-C and SIGTERM write a checkpoint after the step in hand and end the training; a second one ends it at once.
- A class has a name of up to 200 printable characters. Names must differ in more than case and spaces, and a number as
  a name must be the id of its class.
- After an interruption, the same command continues from the last checkpoint, with the same result as without one. A
  finished bundle is left unchanged. A folder with the bundle of another recipe is refused, and so is a checkpoint whose
  labels have changed.
- A GPU is used where there is one (`--device`). All figures in these pages come from trainings on CPUs; our own tests
  have not been run on a GPU.
- The folder `training/` beside the bundle has curves as CSV files and for TensorBoard. It may be deleted when the
  bundle is finished.
- `item.json` and the model card name the recipe, the digests of the data, the commit, and the IoU of each class.
- `watch` names a third set of scenes for early stopping. Without it, the last step becomes the bundle.
- A student is a recipe with a `teacher`: a bundle with the same classes, whose logits are computed once and kept. Its
  `train` scenes may include rasters without labels. A teacher helps most there: with few labels of its own, a student
  gained six points from a teacher that had many ([models.md](models.md)).
- Borders of tiles may become visible in the output of a model with wide attention. Crops as large as a run's tiles, and
  `agree`, reduce that ([decision 53](decisions/0053-two-tiles-are-asked-to-agree.md)).
- From Python, `batchseg.train("town.yaml", "models/town-heavy")` and `batchseg.distill` do the same and return the
  bundle.

`configs/train/` has the recipes of all models that are shipped, and [models.md](models.md) how good they are.

The keys are made from the code (`make docs`). `validate` and `watch` have the keys of `train`.
"""


def make_page() -> str:
    return f"{HEAD}\n{section('Training recipe', TrainRecipe)}"


if __name__ == "__main__":
    write_text(Path(sys.argv[1]), make_page())
