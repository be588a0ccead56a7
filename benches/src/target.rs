//! What a figure is compared with.

/// What the figure of a row is compared with.
#[derive(Clone, Copy)]
pub enum Against {
    /// The best of all other runtimes, without the hand-written loops.
    Best,
    /// The hand-written epoll loop.
    Limit,
    /// One runtime.
    One(&'static str),
    /// The best of these.
    Among(&'static [&'static str]),
    /// The worse of the best of these and the hand-written edge-triggered loop.
    AmongOrEdge(&'static [&'static str]),
    /// A number.
    Absolute,
}

/// A bound for the ratio to each of these.
pub type Targets = &'static [(f64, Against)];
