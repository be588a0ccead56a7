//! The wait on systems other than Linux: that of the crate polling.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::event::SourceEvent;
use super::registration::PollerHandle;
#[cfg(not(soloist_liar))]
use crate::schedule::Order;

pub(super) struct Wait {
    reported: polling::Events,
    events: Vec<SourceEvent>,
}

impl Wait {
    pub(super) fn new(_: &Arc<PollerHandle>) -> io::Result<Wait> {
        Ok(Wait {
            reported: polling::Events::new(),
            events: Vec::new(),
        })
    }

    pub(super) fn wait(
        &mut self,
        poller: &Arc<PollerHandle>,
        timeout: Option<Duration>,
    ) -> io::Result<()> {
        self.events.clear();
        self.reported.clear();
        poller.poller().wait(&mut self.reported, timeout)?;
        self.events
            .extend(self.reported.iter().map(|event| SourceEvent {
                key: event.key,
                readable: event.readable,
                writable: event.writable,
                // Each wait arms the direction anew, so the end of a stream is never missed.
                ended: false,
            }));
        Ok(())
    }

    /// There is no timer: the host loop uses `next_deadline`.
    #[cfg(unix)]
    pub(super) fn arm_timer(&self, _: Option<Duration>) -> io::Result<()> {
        Ok(())
    }

    /// Whether the last wait may have consumed the notification, which may have been meant for the
    /// host loop of a guest runtime. The poller does not tell, so this is always true.
    #[cfg(unix)]
    pub(super) fn consumed_wakeup(&mut self) -> bool {
        true
    }

    /// Changes the order of the events of the last wait.
    #[cfg(not(soloist_liar))]
    pub(super) fn shuffle(&mut self, order: &dyn Order) {
        order.shuffle(&mut self.events);
    }

    /// The events of sources in the last wait.
    pub(super) fn events(&self) -> impl Iterator<Item = SourceEvent> + '_ {
        self.events.iter().copied()
    }
}
