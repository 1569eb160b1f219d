"""DATA specifications to tensors.

`spec` resolves a specification, by `names` and paths, to a `dataset.Dataset`; the modules beside
it each know one kind of source: `embedded` digits, `twod` sets (with their `densities`),
downloaded `vision` sets and `celeba`, `reference` noise, `files` of `arrays` and `tables`, and
image `folders`. Files are treated as hostile: no pickle is ever read and sizes are checked before
memory is taken.
"""
