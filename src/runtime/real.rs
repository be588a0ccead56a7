//! `simulated.rs` without the feature `testing`: no run is simulated.

use std::io;
use std::time::Duration;

use super::Runtime;

impl Runtime {
    /// Never called, since there is no virtual clock.
    #[inline]
    pub(super) fn visit_virtual(&self, _: Option<Duration>) -> io::Result<()> {
        Ok(())
    }
}
