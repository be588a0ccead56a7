//! The guide: pages about the crate as a whole.

#[doc = include_str!("../docs/coming-from-asyncio.md")]
pub mod coming_from_asyncio {}

#[doc = include_str!("../docs/wake-up.link")]
#[doc = include_str!("../docs/a-wake-up.md")]
pub mod a_wake_up {}

#[doc = include_str!("../docs/select.md")]
pub mod select {}

#[cfg(feature = "testing")]
#[doc = include_str!("../docs/testing.md")]
pub mod testing {}

#[doc = include_str!("../docs/when-one-thread-is-not-enough.md")]
pub mod when_one_thread_is_not_enough {}

// Their code uses other crates. ecosystem/clients compiles it.
#[cfg_attr(not(doctest), doc = include_str!("../docs/ecosystem.md"))]
pub mod ecosystem {}

#[cfg_attr(not(doctest), doc = include_str!("../docs/from-tokio.md"))]
pub mod from_tokio {}

#[cfg_attr(not(doctest), doc = include_str!("../docs/from-smol.md"))]
pub mod from_smol {}
