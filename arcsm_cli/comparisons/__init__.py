"""The paper's experiments between objectives: `arcsm compare`.

An experiment is a module with its `Settings`, those of ``--quick``, and a function `run` from
settings to tables of records. `experiments` lists them, `fields` and `objectives` are what several
share.
"""
