//! The ready queue: what runs next, and what other threads have sent.

use std::mem::{replace, take};

use super::state::Executor;
use crate::hooks::{self, WakeSource};
use crate::panics::Panics;
use crate::schedule::Order;
use crate::sync::atomic::{Ordering, fence};
use crate::task_cell::{LocalTask, MainTask, Message, SharedTask, WakeTarget};

/// The most messages of other threads that are taken per generation, so that threads that send
/// without pause do not starve the sockets.
pub(super) const MESSAGES: usize = 128;

impl Executor {
    /// A task was woken on this executor's thread. Returns false if it is another executor's.
    #[inline(always)]
    pub(super) fn wake(&self, task: &SharedTask) -> bool {
        if task.executor() != self.id() {
            return false;
        }
        match self.owner.queue(task) {
            Some(task) => {
                self.counts.wakes_local.add(1);
                hooks::task_woken(|| task.meta());
                self.ready.borrow_mut().push_back(task);
            }
            None => self.counts.wakes_redundant.add(1),
        }
        true
    }

    /// A task of this executor was woken on another thread, or while it was not entered.
    fn wake_remote(&self, task: &SharedTask) {
        match self.owner.queue_remote(task) {
            Some(task) => {
                self.counts.wakes_remote.add(1);
                hooks::task_woken(|| task.meta());
                if let Some(clock) = self.simulated_clock() {
                    if task.waits().are_external() {
                        clock.woken_by_message(&task);
                    }
                }
                self.ready.borrow_mut().push_back(task);
            }
            None => self.counts.wakes_redundant.add(1),
        }
    }

    #[inline]
    pub(super) fn pop_ready(&self) -> Option<LocalTask> {
        self.ready.borrow_mut().pop_front()
    }

    /// Whether a task is ready, or will be at the end of the generation.
    #[inline]
    pub(crate) fn is_anything_ready(&self) -> bool {
        !self.ready.borrow().is_empty() || !self.deferred.borrow().is_empty()
    }

    /// How many tasks are ready, or will be at the end of the generation.
    pub(crate) fn ready_count(&self) -> usize {
        self.ready.borrow().len() + self.deferred.borrow().len()
    }

    /// How many tasks are in the ready queue.
    #[inline]
    pub(crate) fn queue_len(&self) -> usize {
        self.ready.borrow().len()
    }

    /// A generation begins: all tasks that are ready now. Returns how many there are.
    #[inline]
    pub(crate) fn begin_generation(&self) -> usize {
        let ready = self.queue_len();
        self.count_generation(ready);
        if ready > 0 {
            if let Some(order) = self.order() {
                self.shuffle_ready(ready, order);
            }
        }
        ready
    }

    /// A generation of so many tasks begins.
    #[inline]
    pub(crate) fn count_generation(&self, ready: usize) {
        self.messages_left.set(MESSAGES);
        if ready > 0 {
            self.counts.turns.add(1);
            self.counts.longest_queue.raise_to(ready);
        }
    }

    #[cold]
    fn shuffle_ready(&self, count: usize, order: &dyn Order) {
        let mut ready = self.ready.borrow_mut();
        let generation = &mut ready.make_contiguous()[..count];
        order.shuffle(generation);
        for task in generation {
            order.note(task.number());
        }
    }

    /// The generation has ended: appends the tasks that have yielded in it, and wakes what was
    /// deferred because the budget of a poll was spent.
    #[inline(always)]
    pub(crate) fn append_deferred(&self) {
        if !self.deferred.borrow().is_empty() {
            self.append_some();
        }
    }

    #[inline]
    fn append_some(&self) {
        let mut deferred = self.deferred.borrow_mut();
        let mut ready = self.ready.borrow_mut();
        while let Some(task) = deferred.yielded.pop_front() {
            ready.push_back(task);
        }
        if !deferred.wakes.is_empty() {
            let wakes = take(&mut deferred.wakes);
            drop((ready, deferred));
            wake_all(wakes);
        }
    }

    /// Whether other threads have sent something.
    #[inline]
    pub(crate) fn has_messages(&self) -> bool {
        self.remote.inbox().is_filled()
    }

    /// Handles what other threads have sent, in order, as far as this generation may.
    #[inline]
    pub(crate) fn read_inbox(&self) {
        if self.has_messages() {
            self.read_filled_inbox();
        }
    }

    #[cold]
    fn read_filled_inbox(&self) {
        let mut messages = self.messages.take();
        let most = self.messages_left.get();
        self.remote.inbox().take(most, &mut messages);
        self.messages_left.set(most.saturating_sub(messages.len()));
        if let Some(clock) = self.simulated_clock() {
            clock.reads_inbox();
        }
        let mut panics = Panics::default();
        hooks::attribute_wakes(WakeSource::Inbox, || {
            for message in &mut messages {
                // `Stop` stands for a message that has been taken.
                match replace(message, Message::Stop) {
                    Message::Wake(task) => self.wake_remote(&task),
                    // User code: it may drop a waker, for example.
                    Message::Call(call) => {
                        panics.catch(call);
                        self.is_panicking.set(!panics.is_empty());
                    }
                    Message::Stop => self.stopped.set(true),
                }
            }
        });
        messages.clear();
        self.messages.set(messages);
        self.is_panicking.set(false);
        panics.resume();
    }

    /// Whether `stop` was called.
    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped.get()
    }

    /// Whether `stop` was called. The call counts no more after this.
    pub(crate) fn take_stopped(&self) -> bool {
        self.stopped.take()
    }

    /// Whether no task can ever run again, as far as that depends on wakers: nothing is ready,
    /// and no timer is set. Counted, not guessed: a task runs again only if it is woken, and to
    /// wake it takes a reference to its cell. Local references are held by other tasks, timers
    /// and sources, which the caller looks at.
    pub(crate) fn has_no_external_waker(&self) -> bool {
        let can_be_woken = |task: &LocalTask| task.remote_count() > 0;
        let main = self.main.borrow();
        let main = main.as_ref().map(MainTask::task);
        if main.is_some_and(|main| main.is_idle() && can_be_woken(&main)) {
            return false;
        }
        // If there is such a task, it is nearly always the one that was found the last time.
        let tasks = self.tasks.borrow();
        let hint = self.external_waker_hint.get();
        for place in 0..tasks.places() {
            let slot = (hint + place) % tasks.places();
            if tasks.get(slot).is_some_and(can_be_woken) {
                self.external_waker_hint.set(slot);
                return false;
            }
        }
        // What was sent through a reference was sent before the reference was dropped.
        fence(Ordering::Acquire);
        !self.has_messages()
    }
}

/// Wakes all, and then resumes the first panic.
#[cold]
fn wake_all(mut targets: Vec<WakeTarget>) {
    let mut panics = Panics::default();
    WakeTarget::wake_all(&mut targets, &mut panics);
    panics.resume();
}
