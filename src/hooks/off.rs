//! The functions of `ring.rs` that the engine calls, empty: nothing is recorded.

use super::{TaskMeta, WaitReason, WakeSource};

#[inline(always)]
pub(crate) fn task_spawned<'a>(_: impl FnOnce() -> TaskMeta<'a>) {}

#[inline(always)]
pub(crate) fn poll_started<'a>(_: impl FnOnce() -> TaskMeta<'a>) {}

#[inline(always)]
pub(crate) fn will_wait(_: WaitReason) {}

#[inline(always)]
pub(crate) fn poll_ended(_is_over: bool) {}

#[inline(always)]
pub(crate) fn poll_panicked() {}

#[inline(always)]
pub(crate) fn task_cancelled<'a>(_: impl FnOnce() -> TaskMeta<'a>) {}

#[inline(always)]
pub(crate) fn task_woken<'a>(_: impl FnOnce() -> TaskMeta<'a>) {}

#[inline(always)]
pub(crate) fn runtime_left(_id: u64) {}

#[inline(always)]
pub(crate) fn attribute_wakes<R>(_: WakeSource, f: impl FnOnce() -> R) -> R {
    f()
}
