"""docs/training.md: how to train, and every key of a training recipe with its default, made from the code.

`make docs` renews it: `python -m batchseg.training.document docs/training.md`.
"""

from __future__ import annotations

import sys
from pathlib import Path

from batchseg.recipe.document import section
from batchseg.training.train_recipe import TrainRecipe

HEAD = """# Train and distil your own models

    batchseg train town.yaml models/town-heavy
    batchseg distill student.yaml models/town-bulk
    batchseg model tune models/town-bulk --on scene.tif

A training recipe names ground to learn from and ground to measure on; both are whole scenes, so what is measured was
never seen. Scenes are rasters with class ids on the same grid, or seeds of `batchseg synth`. The least that does:

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

- `gsd_m` is the smallest and the largest pixel, in metres on the ground, that the bundle is for. All rasters lie in
  between, and a run refuses a scene that does not.
- These rasters hold bytes, in bands that are called red, green and blue. Other bands need `bands` or `take`; wider
  types need `dtype` and `range`, or `scale`, which maps their values into bytes.
- The same command goes on after an interruption, from the last checkpoint, as if there had been none. What is made is
  not made again; a folder with the bundle of another recipe, or labels that were changed meanwhile, are refused.
- A GPU is taken where there is one (`--device`). Everything that is measured in these pages was trained on CPUs; on a
  GPU our own tests have not been run.
- Beside the bundle, in `training/`, are curves for a spreadsheet (CSV) and for TensorBoard. They may go once it is
  made.
- The bundle says what it was made of (recipe, digests of the data, commit) and how good it is by class, in `item.json`
  and in a model card.
- `watch` names a third set of scenes for early stopping. Without it the last step is what you get.
- A student is a recipe with a `teacher`: a bundle with the same classes, whose answers are computed once and kept. Its
  ground may have rasters without labels, and that is where a teacher is of most use: where you have few labels and it
  had many, a student gained six points ([models.md](models.md)).
- Tiles of a model with wide attention may show where they meet. Crops as large as a run's tiles, and `agree`, make that
  less ([decision 53](decisions/0053-two-tiles-are-asked-to-agree.md)).

`configs/train/` has the recipes of all models that are shipped, and [models.md](models.md) what they are worth.

The keys are made from the code (`make docs`). `validate` and `watch` have those of `train`.
"""


def document() -> str:
    return f"{HEAD}\n{section('Training recipe', TrainRecipe)}"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(document(), "utf-8")
