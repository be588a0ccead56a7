//! First come, first served.

use std::ops::Deref;

/// An order that is to be repeated, of which there is none.
#[derive(Debug)]
pub(crate) enum Order {}

impl Order {
    pub(crate) fn is_shuffled(&self) -> bool {
        match *self {}
    }

    pub(crate) fn shuffle<T>(&self, _: &mut [T]) {
        match *self {}
    }

    pub(crate) fn note(&self, _: u64) {
        match *self {}
    }
}

/// A reference to an [`Order`], of which there is none.
#[derive(Debug, Clone)]
pub(crate) enum SharedOrder {}

impl Deref for SharedOrder {
    type Target = Order;

    fn deref(&self) -> &Order {
        match *self {}
    }
}
