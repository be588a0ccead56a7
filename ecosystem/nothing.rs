//! Empty, since a package needs a target. The contents are in `examples/` and `tests/`.
