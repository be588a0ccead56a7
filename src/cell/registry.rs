//! The tasks of a runtime that have a future in place.

use super::home::NOBODY;
use super::{Header, LocalRef};

/// By their places. A place is one word; whose it is, is in the cell: whoever comes with an
/// old number is about to touch that cell, or its cache line's neighbours, anyway.
pub(super) struct Registry {
    places: Vec<Option<LocalRef<Header>>>,
    /// Those that are free, but for what is behind the end.
    free: Vec<u32>,
}

impl Registry {
    pub(super) const fn new() -> Registry {
        Registry {
            places: Vec::new(),
            free: Vec::new(),
        }
    }

    /// How many tasks there are.
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    /// How many places there are, free or not.
    pub(super) fn places(&self) -> usize {
        self.places.len()
    }

    /// For how many tasks there is memory.
    pub(super) fn capacity(&self) -> usize {
        self.places.capacity()
    }

    /// Puts a task into the place that it is made for: to make it is no user code. Returns
    /// that, and what `new` returns beside it.
    #[inline(always)]
    pub(super) fn insert<T>(&mut self, new: impl FnOnce(u32) -> (LocalRef<Header>, T)) -> (u32, T) {
        let free = self.free.pop();
        let slot = free.unwrap_or_else(|| self.add());
        let (task, rest) = new(slot);
        self.places[slot as usize] = Some(task);
        (slot, rest)
    }

    /// Another place at the end.
    #[inline]
    fn add(&mut self) -> u32 {
        let slot = self.places.len();
        assert!(slot < NOBODY as usize, "fewer than 4,294,967,294 tasks");
        self.places.push(None);
        slot as u32
    }

    /// Whoever is there.
    #[inline]
    pub(super) fn at(&self, slot: usize) -> Option<&LocalRef<Header>> {
        self.places.get(slot)?.as_ref()
    }

    /// The task with this number, of which this is the low half, if it is there.
    #[inline]
    pub(super) fn get(&self, slot: u32, number: u32) -> Option<&LocalRef<Header>> {
        self.at(slot as usize)
            .filter(|task| task.header().number as u32 == number)
    }

    /// As `get`. The place is free then.
    #[inline(always)]
    pub(super) fn remove(&mut self, slot: u32, number: u32) -> Option<LocalRef<Header>> {
        let place = self.places.get_mut(slot as usize)?;
        let task = place.take_if(|task| task.header().number as u32 == number)?;
        self.free.push(slot);
        Some(task)
    }

    /// In the order of their places.
    pub(super) fn iter(&self) -> impl Iterator<Item = &LocalRef<Header>> {
        self.places.iter().flatten()
    }

    /// Takes all out, and leaves no place.
    pub(super) fn take(&mut self) -> impl Iterator<Item = LocalRef<Header>> + use<> {
        self.free.clear();
        std::mem::take(&mut self.places).into_iter().flatten()
    }

    /// Forgets the places, where there is no task.
    pub(super) fn clear(&mut self) {
        debug_assert_eq!(self.len(), 0);
        self.places.clear();
        self.free.clear();
    }
}
