//! Nobody listens: the functions of `ring.rs` that the engine calls, empty.

use super::{Source, Subject, Wait};

#[inline(always)]
pub(crate) fn spawned<'a>(_: impl FnOnce() -> Subject<'a>) {}

#[inline(always)]
pub(crate) fn poll_begins<'a>(_: impl FnOnce() -> Subject<'a>) {}

#[inline(always)]
pub(crate) fn will_wait(_: Wait) {}

#[inline(always)]
pub(crate) fn poll_ends(_over: bool) {}

#[inline(always)]
pub(crate) fn left(_runtime: u64) {}

#[inline(always)]
pub(crate) fn panicked() {}

#[inline(always)]
pub(crate) fn cancelled<'a>(_: impl FnOnce() -> Subject<'a>) {}

#[inline(always)]
pub(crate) fn woken<'a>(_: impl FnOnce() -> Subject<'a>) {}

#[inline(always)]
pub(crate) fn wakes_by<R>(_: Source, f: impl FnOnce() -> R) -> R {
    f()
}
