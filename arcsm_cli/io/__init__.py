"""The only code that touches files: atomic outputs, streams, checkpoints, samples, provenance.

Every output appears whole or not at all (`atomic`), every input may be a path or ``-``
(`streams`), and every file carries the chain of commands that made it (`provenance`).
`checkpoint` holds safetensors files and `samples` HDF5 files; both treat what they read as
hostile: sizes are bounded before memory is allocated (`header`, `hdf5_guard`, `bounded_json`),
libraries that a file can crash run in processes of their own (`isolated`, `sample_reader`),
nothing is ever unpickled or evaluated, and whatever is wrong ends in one
`arcsm_cli.errors.DamagedInputError` that names the file.
"""
