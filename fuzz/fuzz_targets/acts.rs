//! Instructions that need no `Context`: of a poll, of a destructor, or from outside.

use std::io::Write;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use soloist::task::{JoinError, TaskGroup};
use soloist::time::timeout;
use soloist::{Handle, Runtime};

use crate::future::{Depth, Program, spawn_child};
use crate::late::{self, Late};
use crate::process::{self, fail, forget, trace};
use crate::world::{World, current, elsewhere, expect_panic, hear, take};

impl World {
    pub(crate) fn act(self: &Rc<Self>, op: u8) {
        let which = self.next();
        // They would go on until the stack is used up.
        let Some(_depth) = Depth::enter() else { return };
        trace(format_args!("  act {} {which}", op % 24));
        match op % 24 {
            0 => {
                if let Some((waker, woken)) = self.record(which) {
                    woken.store(true, Ordering::SeqCst);
                    waker.wake();
                }
            }
            1 | 2 => {
                if let Some((waker, woken)) = self.record(which) {
                    elsewhere(op % 24 == 1, move || {
                        woken.store(true, Ordering::SeqCst);
                        waker.wake_by_ref();
                        drop(waker);
                    });
                }
            }
            3 => {
                // The last reference may go there.
                if let Some((waker, _)) = self.record(which) {
                    elsewhere(which & 0x80 != 0, move || drop(waker));
                }
            }
            4 | 5 => {
                if let Some(kept) = self.spawn() {
                    self.keep(kept);
                }
            }
            6 => {
                if let Some((task, _)) = self.spawn() {
                    task.detach();
                }
            }
            7 | 8 => drop(take(&self.tasks, which)),
            9 => {
                if let Some((task, _)) = take(&self.tasks, which) {
                    task.detach();
                }
            }
            10 | 11 => {
                if let Some(abort) = take(&self.aborts, which) {
                    match op % 24 {
                        10 => abort.abort(),
                        _ => elsewhere(which & 0x80 != 0, move || abort.abort()),
                    }
                }
            }
            12 | 13 => {
                if let Some(promise) = take(&self.promises, which) {
                    let set = move || {
                        if which & 0x40 != 0 {
                            drop(promise.set(Box::new(which)));
                        }
                    };
                    match op % 24 {
                        12 => set(),
                        _ => elsewhere(which & 0x80 != 0, set),
                    }
                }
            }
            14 | 15 => {
                let Some((handle, number)) = self.handle(which) else {
                    return;
                };
                let make = move || {
                    let program = current().map(|world| {
                        let home = world.made(number);
                        world.at_home(&home, || {
                            world.check_home();
                            Program::wrapped(&world)
                        })
                    });
                    async move {
                        // The output is dropped before there is a box, which the compiler would
                        // forget if that panics (rust-lang/rust#47949).
                        let value = match program {
                            Some(program) => program.await.value(),
                            None => 0,
                        };
                        Box::new(value)
                    }
                };
                if op % 24 == 14 {
                    let remote = handle.spawn(make);
                    self.remotes.borrow_mut().push(remote);
                } else {
                    let slot = Arc::new(Mutex::new(None));
                    let there = slot.clone();
                    elsewhere(true, move || {
                        *there.lock().unwrap() = Some(handle.spawn(make));
                    });
                    let remote = slot.lock().unwrap().take();
                    self.remotes.borrow_mut().extend(remote);
                }
            }
            16 => {
                if let Some(remote) = take(&self.remotes, which) {
                    elsewhere(which & 0x80 != 0, move || match which % 3 {
                        0 => drop(remote),
                        1 => remote.detach(),
                        _ => remote.abort(),
                    });
                }
            }
            17 => {
                if let Some(remote) = take(&self.remotes, which) {
                    match which % 3 {
                        0 => drop(remote),
                        1 => remote.detach(),
                        _ => remote.abort(),
                    }
                }
            }
            18 | 19 => {
                if let Some(mut peer) = take(&self.peers, which) {
                    if which & 0x80 == 0 {
                        let _ = peer.write(&[which]);
                        self.peers.borrow_mut().push(peer);
                    }
                }
            }
            20 => {
                if let Some((handle, _)) = self.handle(which) {
                    handle.stop();
                }
            }
            21 => {
                // A runtime that comes and goes inside of another one.
                let inner = Rc::new(Runtime::new());
                let kept = self.spawn_on(&inner);
                self.spawn_on(&inner).0.detach();
                match which % 3 {
                    0 => drop(kept),
                    1 => self.keep(kept),
                    _ => kept.0.detach(),
                }
                drop(inner);
            }
            22 => {
                if let Some((waker, _)) = self.record(which) {
                    self.wakers.borrow_mut().push(waker);
                }
            }
            _ => self.more(which),
        }
    }

    /// One of the other instructions.
    fn more(self: &Rc<Self>, op: u8) {
        trace(format_args!("  act more {} {op}", op % 16));
        match op % 16 {
            0 | 1 => self.run_here(op >> 4),
            2 => {
                // The last reference, perhaps.
                let runtime = self.runtimes.borrow_mut()[usize::from(op >> 7)].take();
                drop(runtime);
            }
            3 => self.forget(op >> 4),
            4 => {
                let late = match op >> 4 & 7 {
                    0 => take(&self.tasks, op).map(Late::Task),
                    // No thread waits for a task of a runtime that stays until this one ends.
                    1 if !self.waiting.borrow().is_empty() => None,
                    1 => {
                        self.outlived.set(true);
                        let runtime = self.runtimes.borrow()[usize::from(op >> 7)].clone();
                        runtime.map(Late::Runtime)
                    }
                    2 => self
                        .record(self.next())
                        .map(|(waker, _)| Late::Waker(waker)),
                    3 => Some(Late::Run),
                    4 => take(&self.promises, op).map(Late::Promise),
                    5 => take(&self.ends, op).map(Late::End),
                    6 => Some(Late::Exit),
                    _ => take(&self.groups, op).map(Late::Group),
                };
                late::push(self, late);
            }
            5 => match op >> 4 & 3 {
                0 => elsewhere(true, process::exit),
                1 => late::push(self, Some(Late::Exit)),
                _ => process::exit(),
            },
            6 => {
                if self.outlived.get() {
                    return;
                }
                let Some(remote) = take(&self.remotes, op >> 4) else {
                    return;
                };
                let thread = std::thread::spawn(move || {
                    let result = if op & 0x80 == 0 {
                        remote.wait()
                    } else {
                        let hour = Duration::from_secs(3600);
                        let result = soloist::block_on(async { timeout(hour, remote).await });
                        result.unwrap_or_else(|_| fail("a task takes an hour"))
                    };
                    if let Err(Ok(payload)) = result.map_err(JoinError::try_into_panic) {
                        hear(&payload);
                    }
                });
                self.waiting.borrow_mut().push(thread);
            }
            7 => process::close_stderr(),
            8 => {
                // Into a runtime that is not entered, perhaps.
                let runtime = self.runtimes.borrow()[usize::from(op >> 7)].clone();
                if let Some(runtime) = runtime {
                    let kept = self.spawn_on(&runtime);
                    self.keep(kept);
                }
            }
            9 => self.groups.borrow_mut().push(TaskGroup::new()),
            10 => {
                if Handle::try_current().is_some() {
                    if let Some(group) = take(&self.groups, op >> 4) {
                        spawn_child(self, &group);
                        self.groups.borrow_mut().push(group);
                    }
                }
            }
            11 => drop(take(&self.groups, op >> 4)),
            12 | 13 => {
                if let Some(end) = take(&self.ends, op >> 4) {
                    end.act(self, self.next());
                }
            }
            14 => self.slot.set(usize::from(op >> 7)),
            _ => {
                // The current task is among them, perhaps.
                for _ in 0..op >> 4 {
                    drop(take(&self.tasks, op));
                }
            }
        }
    }

    /// Whether a runtime is entered.
    fn is_inside(&self) -> bool {
        if !self.is_late.get() {
            return Handle::try_current().is_some();
        }
        // The thread-local that `try_current` looks at may have gone, and a destructor runs
        // inside of its runtime all the same: there something can be spawned.
        let spawn = || soloist::spawn(async {}).detach();
        match expect_panic("outside of a soloist runtime", spawn) {
            Ok(()) => true,
            Err(is_refused) => !is_refused,
        }
    }

    /// Runs a runtime. Inside of another one that is refused, in destructors, too.
    fn run_here(self: &Rc<Self>, op: u8) {
        let is_inside = self.is_inside();
        let runtime = self.runtimes.borrow()[usize::from(op & 1)].clone();
        let runtime = runtime.unwrap_or_else(|| Rc::new(Runtime::new()));
        let result = self.at_home(&Rc::downgrade(&runtime), || {
            expect_panic("inside a running soloist runtime", || match op >> 1 & 7 {
                0 => drop(runtime.turn(Some(Duration::ZERO)).expect("a turn")),
                1 => {
                    runtime.handle().stop();
                    runtime.run();
                }
                2 => {
                    runtime.handle().stop();
                    runtime.run_forever();
                }
                3 => runtime.block_on(async {}),
                4 => soloist::block_on(async {}),
                5 => soloist::future::block_on(async {}),
                _ => runtime.block_on(crate::main_task(self, op >> 1)),
            })
        });
        match result {
            // A process that exits inside of a runtime stays inside.
            Err(true) if is_inside || process::is_exiting() => {}
            Err(true) => fail("a run is refused where nothing runs"),
            _ if is_inside => fail("a run inside a running runtime is not refused"),
            _ => {}
        }
    }

    fn forget(&self, op: u8) {
        match op {
            0 | 1 => {
                if let Some((task, _)) = take(&self.tasks, op) {
                    forget(task);
                }
            }
            2 | 3 => {
                if let Some(remote) = take(&self.remotes, op) {
                    forget(remote);
                }
            }
            4 => {
                if let Some(promise) = take(&self.promises, op) {
                    forget(promise);
                }
            }
            5 => {
                if let Some(abort) = take(&self.aborts, op) {
                    forget(abort);
                }
            }
            6 => {
                if let Some((waker, _)) = self.record(self.next()) {
                    forget(waker);
                }
            }
            7..=9 => {
                if let Some(end) = take(&self.ends, op) {
                    forget(end);
                }
            }
            10 => {
                if let Some(group) = take(&self.groups, op) {
                    forget(group);
                }
            }
            11 => {
                if let Some((task, _)) = take(&self.tasks, op) {
                    forget(task.join());
                }
            }
            12 => {
                if let Some((task, _)) = take(&self.tasks, op) {
                    forget(task.cancel());
                }
            }
            13 => {
                let runtime = Runtime::new();
                runtime.spawn(std::future::pending::<()>()).detach();
                forget(runtime);
            }
            _ => {
                if self.waiting.borrow().is_empty() {
                    let runtime = self.runtimes.borrow_mut()[usize::from(op & 1)].take();
                    if let Some(runtime) = runtime {
                        self.outlived.set(true);
                        forget(runtime);
                    }
                }
            }
        }
    }
}
