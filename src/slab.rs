//! [`Slab`]: values at keys that stay the same until the value is removed.

use std::ops::{Index, IndexMut};

/// A vector of places, with a stack of the free ones. The place of a value needs no more room than
/// an `Option` of it: a word for a task, where the crate `slab` needs two.
#[derive(Debug)]
pub(crate) struct Slab<T> {
    places: Vec<Option<T>>,
    free: Vec<u32>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Slab {
            places: Vec::new(),
            free: Vec::new(),
        }
    }
}

impl<T> Slab<T> {
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The key that the next value will have.
    #[inline]
    pub(crate) fn vacant_key(&self) -> usize {
        self.free
            .last()
            .map_or(self.places.len(), |key| *key as usize)
    }

    /// Adds a value at the vacant key, which it returns.
    #[inline]
    pub(crate) fn insert(&mut self, value: T) -> usize {
        match self.free.pop() {
            Some(key) => {
                self.places[key as usize] = Some(value);
                key as usize
            }
            None => {
                self.places.push(Some(value));
                self.places.len() - 1
            }
        }
    }

    #[inline]
    pub(crate) fn remove(&mut self, key: usize) -> Option<T> {
        let value = self.places.get_mut(key)?.take()?;
        self.free.push(key as u32);
        Some(value)
    }

    #[inline]
    pub(crate) fn get(&self, key: usize) -> Option<&T> {
        self.places.get(key)?.as_ref()
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, key: usize) -> Option<&mut T> {
        self.places.get_mut(key)?.as_mut()
    }

    /// How many places there are, free or not.
    pub(crate) fn places(&self) -> usize {
        self.places.len()
    }

    /// The values in the order of their keys.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.places.iter().flatten()
    }

    /// The values in the order of their keys.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.places.iter_mut().flatten()
    }

    /// The values in the order of their keys.
    pub(crate) fn into_values(self) -> impl Iterator<Item = T> {
        self.places.into_iter().flatten()
    }
}

/// Panics if there is no value at the key.
impl<T> Index<usize> for Slab<T> {
    type Output = T;

    #[inline]
    fn index(&self, key: usize) -> &T {
        self.get(key).expect("no value at this key")
    }
}

/// Panics if there is no value at the key.
impl<T> IndexMut<usize> for Slab<T> {
    #[inline]
    fn index_mut(&mut self, key: usize) -> &mut T {
        self.get_mut(key).expect("no value at this key")
    }
}

#[cfg(all(test, not(soloist_loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_used_again_after_its_value_was_removed_and_the_last_one_first() {
        let mut slab = Slab::default();
        assert!(slab.is_empty());
        assert_eq!(
            [slab.insert('a'), slab.insert('b'), slab.insert('c')],
            [0, 1, 2]
        );
        assert_eq!(
            (slab.remove(0), slab.remove(0), slab.remove(7)),
            (Some('a'), None, None)
        );
        assert_eq!(slab.remove(2), Some('c'));
        assert_eq!((slab.len(), slab.places(), slab.vacant_key()), (1, 3, 2));
        assert_eq!((slab.get(2), slab.get(1), slab[1]), (None, Some(&'b'), 'b'));
        assert_eq!(
            [slab.insert('d'), slab.insert('e'), slab.insert('f')],
            [2, 0, 3]
        );
        slab[0] = 'g';
        for value in slab.iter_mut() {
            value.make_ascii_uppercase();
        }
        assert_eq!(slab.iter().collect::<String>(), "GBDF");
        assert_eq!(slab.into_values().collect::<String>(), "GBDF");
    }
}
