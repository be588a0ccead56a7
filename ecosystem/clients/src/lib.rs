//! The code on the pages of the guide that needs other crates, as doctests.

#[cfg(doctest)]
mod pages {
    #[doc = include_str!("../../../docs/ecosystem.md")]
    mod ecosystem {}
}
