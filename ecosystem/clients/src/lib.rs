//! The code on the pages of the guide that needs other crates, as doctests.

#[cfg(doctest)]
mod pages {
    #[doc = include_str!("../../../docs/ecosystem.md")]
    mod ecosystem {}

    #[doc = include_str!("../../../docs/from-tokio.md")]
    mod from_tokio {}

    #[doc = include_str!("../../../docs/from-smol.md")]
    mod from_smol {}
}
