//! The tests of the crate as its users see it: one binary, a file per area.
//!
//! Names that begin with `b` and a number are regressions: each is a bug that a system
//! of this kind has had.

mod examples;
mod support;
