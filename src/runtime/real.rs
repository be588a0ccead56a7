//! No run is simulated: what `simulated.rs` is without the feature `testing`.

use std::io;
use std::time::Duration;

use super::Runtime;

impl Runtime {
    /// Is never called, since there is no virtual clock.
    #[inline]
    pub(super) fn visit_virtual(&self, _: Option<Duration>) -> io::Result<()> {
        Ok(())
    }
}
