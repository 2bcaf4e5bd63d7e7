"""Which changes of the configuration segment better, cross-validated on real cases.

`overlays/` holds one file per change, `results/` one file of figures per change that was measured. `python -m
experiments` runs them and writes docs/experiments.md and two sections of docs/results.md; `python -m
experiments.baseline`, `.real_scores`, `.starter` and `.nnunet` write the other figures of real cases. Here is what asks
how well a configuration segments; how fast it is, `benchmarks/` asks.
"""
