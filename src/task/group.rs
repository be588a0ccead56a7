//! Tasks that belong together: the first failure cancels the rest.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, Location, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Context as TaskContext, Poll, Waker};

use pin_project_lite::pin_project;

use super::Task;
use crate::cell::note;
use crate::context::{self, HoldsWaker};
use crate::hooks::WaitReason;
use crate::panics::{Panics, Payload};

/// Tasks that belong together.
///
/// The first of them that returns an error, or panics, cancels the rest: at once, whether
/// somebody waits for the group or not. What others had returned before that can still be
/// taken with [`next`](TaskGroup::next). Dropping the group cancels all. So none outlives
/// it. If a destructor of a child that is cancelled panics, that is reported as for a
/// [detached](Task::detach) task.
///
/// A child can spawn siblings, through a [`Spawner`].
///
/// # Examples
///
/// ```
/// use soloist::{block_on, task::TaskGroup};
///
/// let sum: Result<u32, std::num::ParseIntError> = block_on(async {
///     let group = TaskGroup::new();
///     for text in ["1", "2", "3"] {
///         group.spawn(async move { text.parse::<u32>() });
///     }
///     Ok(group.join_all().await?.into_iter().sum())
/// });
/// assert_eq!(sum, Ok(6));
/// ```
pub struct TaskGroup<T, E> {
    spawner: Spawner<T, E>,
}

/// Spawns into a [`TaskGroup`], from wherever on its thread.
///
/// # Examples
///
/// ```
/// use soloist::{block_on, task::TaskGroup};
///
/// block_on(async {
///     let group = TaskGroup::<u32, ()>::new();
///     let siblings = group.spawner();
///     group.spawn(async move {
///         siblings.spawn(async { Ok(2) });
///         Ok(1)
///     });
///     assert_eq!(group.join_all().await, Ok(vec![1, 2]));
/// });
/// ```
pub struct Spawner<T, E> {
    group: Rc<Group<T, E>>,
}

/// The panic of a task, by the name of the task. It is reported if nobody takes it.
struct Unheard(Option<(String, Payload)>);

impl Drop for Unheard {
    fn drop(&mut self) {
        if let Some((who, payload)) = self.0.take() {
            context::report(&who, payload);
        }
    }
}

struct Group<T, E> {
    /// By the order in which they were spawned. One leaves when its result is taken.
    tasks: RefCell<BTreeMap<u64, Task<Result<T, E>>>>,
    spawned: Cell<u64>,
    /// Set by the first failure, and when the group goes: no task starts any more.
    closed: Cell<bool>,
    ends: Rc<Ends>,
}

/// The tasks that are over and have not been looked at, and who waits for one.
#[derive(Default)]
struct Ends {
    over: RefCell<VecDeque<u64>>,
    waker: Cell<Option<Waker>>,
    /// The runtime that was told of this waker last.
    told: Cell<u64>,
}

impl Ends {
    /// Lets the runtime know of the waker: it is woken here and by nobody else, so it does
    /// not prove that somebody is left who will.
    fn tell(self: &Rc<Self>) {
        let Some(context) = context::try_current() else {
            return;
        };
        let id = context.owner.home().id();
        if self.told.replace(id) != id {
            let ends: Weak<Ends> = Rc::downgrade(self);
            context.add_parked(ends);
        }
    }
}

impl HoldsWaker for Ends {
    fn waker(&self) -> &Cell<Option<Waker>> {
        &self.waker
    }
}

impl<T: 'static, E: 'static> TaskGroup<T, E> {
    /// A group without tasks.
    ///
    /// # Examples
    ///
    /// ```
    /// let group = soloist::task::TaskGroup::<(), ()>::new();
    /// assert!(group.is_empty());
    /// ```
    pub fn new() -> TaskGroup<T, E> {
        let group = Group {
            tasks: RefCell::new(BTreeMap::new()),
            spawned: Cell::new(0),
            closed: Cell::new(false),
            ends: Rc::default(),
        };
        TaskGroup {
            spawner: Spawner {
                group: Rc::new(group),
            },
        }
    }

    /// Spawns a task into the group. After a failure it is dropped at once.
    ///
    /// # Panics
    ///
    /// Outside of a runtime.
    ///
    /// # Examples
    ///
    /// See [`TaskGroup`].
    #[track_caller]
    pub fn spawn(&self, future: impl Future<Output = Result<T, E>> + 'static) {
        self.spawner.spawn(future);
    }

    /// How children spawn siblings.
    ///
    /// # Examples
    ///
    /// See [`Spawner`].
    pub fn spawner(&self) -> Spawner<T, E> {
        self.spawner.clone()
    }

    /// How many tasks are in the group: all whose result has not been taken.
    ///
    /// # Examples
    ///
    /// ```
    /// use soloist::{block_on, task::TaskGroup};
    ///
    /// block_on(async {
    ///     let mut group = TaskGroup::<u32, ()>::new();
    ///     group.spawn(async { Ok(1) });
    ///     assert_eq!(group.len(), 1);
    ///     assert_eq!(group.next().await, Some(Ok(1)));
    ///     assert_eq!(group.len(), 0);
    /// });
    /// ```
    pub fn len(&self) -> usize {
        self.spawner.group.tasks.borrow().len()
    }

    /// Whether no task is in the group.
    ///
    /// # Examples
    ///
    /// See [`new`](TaskGroup::new).
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Waits for the next task that is over, whichever it is. `None` when none is left.
    ///
    /// The first error has cancelled all others: they are gone when it is returned.
    ///
    /// # Panics
    ///
    /// With the panic of a task, which has cancelled the others. If a task was cancelled
    /// because its runtime is gone: the results of the others are left for the next call.
    ///
    /// # Cancel safety
    ///
    /// No result is lost.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use soloist::{block_on, task::TaskGroup, time::sleep};
    ///
    /// block_on(async {
    ///     let mut group = TaskGroup::<&str, ()>::new();
    ///     group.spawn(async {
    ///         sleep(Duration::from_millis(5)).await;
    ///         Ok("slow")
    ///     });
    ///     group.spawn(async { Ok("quick") });
    ///     assert_eq!(group.next().await, Some(Ok("quick")));
    ///     assert_eq!(group.next().await, Some(Ok("slow")));
    ///     assert_eq!(group.next().await, None);
    /// });
    /// ```
    pub async fn next(&mut self) -> Option<Result<T, E>> {
        self.next_numbered().await.map(|(_, result)| result)
    }

    /// Waits for all tasks, and returns what they returned in the order in which they
    /// were spawned.
    ///
    /// # Errors
    ///
    /// The first error of a task. The others have been cancelled then, and are gone.
    ///
    /// # Panics
    ///
    /// With the panic of a task, which has cancelled the others. If a task was cancelled
    /// because its runtime is gone: no result is left out silently.
    ///
    /// # Cancel safety
    ///
    /// Dropping it cancels all tasks.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::future::pending;
    /// use soloist::{block_on, task::TaskGroup};
    ///
    /// block_on(async {
    ///     let group = TaskGroup::<(), &str>::new();
    ///     group.spawn(pending());
    ///     group.spawn(async { Err("no such page") });
    ///     assert_eq!(group.join_all().await, Err("no such page"));
    /// });
    /// ```
    pub async fn join_all(mut self) -> Result<Vec<T>, E> {
        let mut outputs = BTreeMap::new();
        while let Some((number, result)) = self.next_numbered().await {
            outputs.insert(number, result?);
        }
        Ok(outputs.into_values().collect())
    }

    /// Cancels all tasks, and waits until they are gone.
    ///
    /// # Panics
    ///
    /// With the panic of a task or of its destructor, when all are gone. If there are
    /// several, the others are reported as for [detached](Task::detach) tasks.
    ///
    /// # Cancel safety
    ///
    /// They are cancelled in any case.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::future::pending;
    /// use soloist::{block_on, task::TaskGroup};
    ///
    /// block_on(async {
    ///     let group = TaskGroup::<(), ()>::new();
    ///     group.spawn(pending());
    ///     group.cancel().await;
    /// });
    /// ```
    pub async fn cancel(self) {
        let group = &self.spawner.group;
        group.closed.set(true);
        let tasks = std::mem::take(&mut *group.tasks.borrow_mut());
        // All at once, and then wait: one of them may be the one that calls this.
        tasks.values().for_each(Task::cancel_now);
        let mut first = Unheard(None);
        for mut task in tasks.into_values() {
            let Err(error) = poll_fn(|cx| task.poll_join(cx)).await else {
                continue;
            };
            let who = error.who().to_string();
            if let Ok(payload) = error.try_into_panic() {
                let last = Unheard(Some((who, payload)));
                if first.0.is_none() {
                    first = last;
                }
            }
        }
        if let Some((_, payload)) = first.0.take() {
            resume_unwind(payload);
        }
    }

    async fn next_numbered(&mut self) -> Option<(u64, Result<T, E>)> {
        poll_fn(|cx| self.spawner.group.poll_next(cx)).await
    }
}

impl<T: 'static, E: 'static> Default for TaskGroup<T, E> {
    fn default() -> Self {
        TaskGroup::new()
    }
}

impl<T, E> Drop for TaskGroup<T, E> {
    fn drop(&mut self) {
        self.spawner.group.close();
    }
}

impl<T: 'static, E: 'static> Spawner<T, E> {
    /// Spawns a task into the group. After a failure, and when the group is gone, it is
    /// dropped at once.
    ///
    /// # Panics
    ///
    /// Outside of a runtime.
    ///
    /// # Examples
    ///
    /// See [`Spawner`].
    #[track_caller]
    pub fn spawn(&self, future: impl Future<Output = Result<T, E>> + 'static) {
        let group = &self.group;
        if group.closed.get() {
            drop(future);
            return;
        }
        let number = group.spawned.get();
        group.spawned.set(number + 1);
        let tell = TellEnd {
            ends: group.ends.clone(),
            number,
        };
        let context = context::current("`TaskGroup::spawn`");
        let child = Child {
            future: Some(future),
            group: Rc::downgrade(group),
            tell,
        };
        let task = Task::new(context.owner.spawn(child, None, Location::caller()));
        let old = group.tasks.borrow_mut().insert(number, task);
        debug_assert!(old.is_none(), "numbers are not reused");
    }
}

impl<T, E> Clone for Spawner<T, E> {
    fn clone(&self) -> Self {
        Spawner {
            group: self.group.clone(),
        }
    }
}

impl<T, E> Group<T, E> {
    fn poll_next(&self, cx: &mut TaskContext<'_>) -> Poll<Option<(u64, Result<T, E>)>> {
        loop {
            let over = self.ends.over.borrow_mut().pop_front();
            let Some(number) = over else { break };
            let task = self.tasks.borrow_mut().remove(&number);
            let Some(mut task) = task else { continue };
            match task.poll_join(cx) {
                Poll::Ready(Ok(result)) => {
                    return Poll::Ready(Some((number, result)));
                }
                Poll::Ready(Err(error)) => match error.try_into_panic() {
                    Ok(payload) => resume_unwind(payload),
                    // No other cancel leaves the task in the group.
                    Err(error) => panic!(
                        "{} of a `TaskGroup` was cancelled, because its runtime is gone: take \
                         the results while it runs",
                        error.who()
                    ),
                },
                Poll::Pending => {
                    // Its future is being dropped right now: this waker is told the end.
                    let mut tasks = self.tasks.borrow_mut();
                    tasks.insert(number, task);
                    drop(tasks);
                    self.ends.over.borrow_mut().push_back(number);
                    return Poll::Pending;
                }
            }
        }
        if self.tasks.borrow().is_empty() {
            return Poll::Ready(None);
        }
        let old = self.ends.waker.replace(Some(cx.waker().clone()));
        drop(old);
        note(WaitReason::Group);
        self.ends.tell();
        Poll::Pending
    }

    /// Cancels all tasks.
    fn close(&self) {
        self.closed.set(true);
        let tasks = std::mem::take(&mut *self.tasks.borrow_mut());
        let mut panics = Panics::default();
        cancel(tasks, &mut panics);
        panics.resume();
    }

    /// Cancels all tasks but those that are over, and the one that has failed, which is
    /// in its last poll.
    fn fail(&self, failed: u64, panics: &mut Panics) {
        if self.closed.replace(true) {
            // It is one of those that are being cancelled.
            return;
        }
        let tasks = self.tasks.take();
        let (stay, go) = tasks
            .into_iter()
            .partition(|(number, task)| *number == failed || task.is_finished());
        self.tasks.replace(stay);
        cancel(go, panics);
    }
}

/// User code: no borrow is held here.
fn cancel<T, E>(tasks: BTreeMap<u64, Task<Result<T, E>>>, panics: &mut Panics) {
    for task in tasks.into_values() {
        panics.catch(|| drop(task));
    }
}

pin_project! {
    /// A child's future, which tells its end however that comes about.
    struct Child<F, T, E> {
        // Until it is dropped.
        #[pin]
        future: Option<F>,
        // Weak: the group holds the task, and so its future.
        group: Weak<Group<T, E>>,
        tell: TellEnd,
    }

    impl<F, T, E> PinnedDrop for Child<F, T, E> {
        fn drop(this: Pin<&mut Self>) {
            let mut this = this.project();
            let mut panics = Panics::default();
            panics.catch(|| this.future.set(None));
            if !panics.is_empty() {
                fail(this.group, this.tell.number, &mut panics);
            }
            panics.resume();
        }
    }
}

/// The first failure cancels the rest.
fn fail<T, E>(group: &Weak<Group<T, E>>, failed: u64, panics: &mut Panics) {
    if let Some(group) = group.upgrade() {
        group.fail(failed, panics);
    }
}

impl<F, T, E> Future for Child<F, T, E>
where
    F: Future<Output = Result<T, E>>,
{
    type Output = Result<T, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Result<T, E>> {
        let this = self.project();
        let future = this.future.as_pin_mut().expect("it is not dropped yet");
        let polled = catch_unwind(AssertUnwindSafe(|| future.poll(cx)));
        let mut panics = Panics::default();
        let output = match polled {
            Ok(Poll::Ready(Err(error))) => Some(Poll::Ready(Err(error))),
            Ok(other) => return other,
            Err(payload) => {
                panics.keep(payload);
                None
            }
        };
        fail(this.group, this.tell.number, &mut panics);
        panics.resume();
        output.expect("its panic has been resumed")
    }
}

struct TellEnd {
    ends: Rc<Ends>,
    number: u64,
}

impl Drop for TellEnd {
    fn drop(&mut self) {
        self.ends.over.borrow_mut().push_back(self.number);
        if let Some(waker) = self.ends.waker.take() {
            // It may be that the thread unwinds from the child's destructor.
            let mut panics = Panics::default();
            panics.catch(|| waker.wake());
            panics.resume();
        }
    }
}

impl<T, E> fmt::Debug for TaskGroup<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let len = self.spawner.group.tasks.borrow().len();
        f.debug_struct("TaskGroup")
            .field("len", &len)
            .finish_non_exhaustive()
    }
}

impl<T, E> fmt::Debug for Spawner<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spawner").finish_non_exhaustive()
    }
}
