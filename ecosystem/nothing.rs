//! A package needs a target. What is here to see is in `examples/` and `tests/`.
