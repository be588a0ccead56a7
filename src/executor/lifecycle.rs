//! How an executor is made, and how it ends.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Instant;

use super::current;
use super::queue::MESSAGES;
use super::state::{Executor, Settings};
use super::tasks::report_panic;
use super::timers::Timers;
use crate::hooks::counts::Counts;
use crate::hooks::watch::Watch;
use crate::inbox::{Inbox, Notifier};
use crate::panics::Panics;
use crate::task_cell::{Message, Owner};

impl Executor {
    pub(crate) fn new(settings: Settings) -> Rc<Executor> {
        let now = Instant::now();
        let owner = Owner::new(take_inbox());
        let executor = Rc::new(Executor {
            remote: owner.remote(),
            owner,
            ready: RefCell::default(),
            deferred: RefCell::default(),
            tasks: RefCell::default(),
            main: RefCell::new(None),
            spawned: Cell::new(0),
            main_calls: Cell::new(0),
            is_closed: Cell::new(false),
            timers: RefCell::new(Timers::new(now)),
            now: Cell::new(now),
            parker: OnceCell::new(),
            notified_reactor: Cell::new(None),
            stopped: Cell::new(false),
            propagate_panics: settings.propagate_panics,
            is_panicking: Cell::new(false),
            due: Cell::default(),
            messages: Cell::default(),
            messages_left: Cell::new(MESSAGES),
            counts: Counts::default(),
            watch: Watch::new(settings.inspect, settings.warn_slow),
            external: OnceCell::new(),
            external_waker_hint: Cell::new(0),
            simulation: settings.simulation.map(|settings| settings.build()),
        });
        current::add(&executor);
        executor
    }

    /// The runtime is dropped: drops all tasks, inside it.
    pub(crate) fn close(self: &Rc<Self>, panics: &mut Panics) {
        self.is_closed.set(true);
        let messages = self.remote.inbox().close();
        let is_empty = messages.is_empty()
            && self.live() == 0
            && self.timers.borrow().is_empty()
            && self.deferred.borrow().wakes.is_empty();
        if !is_empty {
            let _entered = self.enter();
            self.drop_all(messages, panics);
        }
        // No user code: tasks that are over have neither future nor joiner.
        self.ready.take();
        self.deferred.take();
        self.main.take();
        current::remove(self);
        keep_inbox(self.remote.inbox());
    }

    /// Each panic is caught, so that all futures are dropped here, on their own thread.
    #[inline(never)]
    fn drop_all(&self, mut messages: VecDeque<Message>, panics: &mut Panics) {
        while let Some(message) = messages.pop_front() {
            panics.catch(|| drop(message));
        }
        let tasks = self.tasks.take();
        for task in tasks.into_values() {
            let mut panic = None;
            // It wakes what awaits the task: that waker may panic, too.
            panics.catch(|| panic = self.cancel(&task));
            if let Some(payload) = panic {
                // The first panic is resumed, the others are reported.
                if panics.is_empty() && !std::thread::panicking() {
                    panics.keep(payload);
                } else {
                    report_panic(&task.label(), payload);
                }
            }
        }
        let mut targets = self.timers.borrow_mut().disarm();
        targets.append(&mut self.deferred.take().wakes);
        for target in targets {
            panics.catch(|| drop(target));
        }
    }
}

/// The inboxes of runtimes that are gone: closed, and empty. An inbox is never freed, so that
/// tasks and wakers can refer to it without a count.
static INBOXES: std::sync::Mutex<Vec<&'static Inbox<Message, Notifier>>> =
    std::sync::Mutex::new(Vec::new());

fn take_inbox() -> &'static Inbox<Message, Notifier> {
    let inbox = lock_inboxes().pop();
    inbox.unwrap_or_else(|| Box::leak(Box::new(Inbox::new())))
}

fn keep_inbox(inbox: &'static Inbox<Message, Notifier>) {
    // An inbox of loom's parts is of use in one run of a model only.
    if !cfg!(soloist_loom) {
        lock_inboxes().push(inbox);
    }
}

fn lock_inboxes() -> std::sync::MutexGuard<'static, Vec<&'static Inbox<Message, Notifier>>> {
    INBOXES
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}
