//! A connection: what is on its way, what has arrived, and who waits for that.

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, Wake, Waker};
use std::time::Instant;

use super::network::{Link, Network, wait_in, wake_all};
use crate::clock;
use crate::executor;
use crate::schedule::Random;
use crate::sync::{Mutex, lock};
use crate::time::{Sleep, sleep_until};

/// What fits into a packet.
const PACKET: usize = 1460;

/// Both directions of a connection. Its one timer wakes it when the next packet arrives.
///
/// The lock of the network is taken while this one's is held, never the other way round.
pub(super) struct Connection {
    network: Network,
    /// Of who has connected, and of who has accepted.
    pub(super) addresses: [SocketAddr; 2],
    state: Mutex<State>,
}

struct State {
    /// What each end has sent.
    pipes: [Pipe; 2],
    ends: [End; 2],
    /// A packet has broken it: none does so again.
    cut: bool,
    random: Random,
    timer: Option<Sleep>,
    /// To be woken when the lock is let go.
    woken: Vec<Waker>,
}

#[derive(Default)]
struct Pipe {
    /// In the order in which they arrive.
    on_the_way: VecDeque<Packet>,
    arrived: VecDeque<u8>,
    /// Of both.
    bytes: usize,
    /// Set while the link is cut.
    held: bool,
    /// The end of the stream has arrived.
    ended: bool,
    last: Option<Instant>,
    readers: Vec<Waker>,
    writers: Vec<Waker>,
}

struct Packet {
    at: Instant,
    what: What,
}

enum What {
    Bytes(Vec<u8>),
    End,
    Reset,
}

/// How one side stands.
#[derive(Default)]
struct End {
    reset: bool,
    /// The error of a reset, until it is reported: once.
    error: Option<io::ErrorKind>,
    reads_no_more: bool,
    writes_no_more: bool,
    /// The last handle has been dropped.
    gone: bool,
}

impl Connection {
    #[inline]
    pub(super) fn new(network: Network, addresses: [SocketAddr; 2]) -> Arc<Connection> {
        let held = network.is_cut(addresses[0].ip(), addresses[1].ip());
        let pipe = || Pipe {
            held,
            ..Pipe::default()
        };
        let connection = Arc::new(Connection {
            addresses,
            state: Mutex::new(State {
                pipes: [pipe(), pipe()],
                ends: Default::default(),
                cut: false,
                random: network.random(),
                timer: None,
                woken: Vec::new(),
            }),
            network: network.clone(),
        });
        network.add_connection(&connection);
        connection
    }

    /// Does something with all that has arrived by now, and then wakes whom that concerns.
    #[inline]
    fn with<R>(self: &Arc<Self>, f: impl FnOnce(&mut State) -> R) -> R {
        let (result, woken) = {
            let mut state = lock(&self.state);
            self.settle(&mut state);
            let result = f(&mut state);
            // What was sent over a perfect link has arrived.
            self.settle(&mut state);
            self.set_timer(&mut state);
            (result, std::mem::take(&mut state.woken))
        };
        wake_all(woken);
        result
    }

    /// Lets all that is due arrive.
    #[inline]
    fn settle(&self, state: &mut State) {
        let now = clock::now();
        while let Some((from, what)) = state.next_due(now) {
            let to = 1 - from;
            let pipe = &mut state.pipes[from];
            match what {
                // Nothing comes after a reset.
                What::Bytes(bytes) if state.ends[to].reset => {
                    pipe.bytes -= bytes.len();
                    state.woken.append(&mut pipe.writers);
                }
                // As Linux does, which resets both sides if the receiver has shut down both
                // directions.
                What::Bytes(bytes) if state.ends[to].takes_nothing() => {
                    pipe.bytes -= bytes.len();
                    state.reset(to);
                    self.send(state, to, What::Reset);
                }
                What::Bytes(bytes) => {
                    pipe.arrived.extend(bytes);
                    state.woken.append(&mut pipe.readers);
                }
                What::End if state.ends[to].reset => {}
                What::End => {
                    pipe.ended = true;
                    state.woken.append(&mut pipe.readers);
                }
                What::Reset => state.reset(to),
            }
        }
    }

    /// Has us woken when the next packet arrives.
    #[inline]
    fn set_timer(self: &Arc<Self>, state: &mut State) {
        let over = state.ends.iter().all(|end| end.gone);
        let Some(next) = state.next_arrival().filter(|_| !over) else {
            state.timer = None;
            return;
        };
        if executor::try_current().is_none() {
            // There is no timer outside of a runtime. Every waiter sets it when it is polled
            // again, in its own runtime.
            state.timer = None;
            for pipe in &mut state.pipes {
                state.woken.append(&mut pipe.readers);
                state.woken.append(&mut pipe.writers);
            }
            return;
        }
        let timer = state.timer.get_or_insert_with(|| sleep_until(next));
        if timer.deadline() != next {
            timer.reset(next);
        }
        let waker = Waker::from(self.clone());
        let polled = Pin::new(timer).poll(&mut TaskContext::from_waker(&waker));
        if polled.is_ready() {
            // The system's clock has moved on meanwhile.
            state.timer = None;
            state.woken.push(waker);
        }
    }

    #[inline]
    fn link(&self) -> Link {
        let [one, other] = self.addresses;
        self.network.link(one.ip(), other.ip())
    }

    /// Sends from this end to the other.
    #[inline]
    fn send(&self, state: &mut State, from: usize, what: What) {
        let (source, target) = (self.addresses[from], self.addresses[1 - from]);
        let size = what.size();
        let network = &self.network;
        let at = network.arrival(source.ip(), target.ip(), size, &state.random);
        let pipe = &mut state.pipes[from];
        let at = pipe.last.map_or(at, |last| last.max(at));
        pipe.last = Some(at);
        pipe.bytes += size;
        let takes = at.saturating_duration_since(clock::now());
        let (seconds, nanos) = (takes.as_secs(), takes.subsec_nanos());
        network.note(format_args!(
            "{source} > {target} {what} +{seconds}.{nanos:09}"
        ));
        pipe.on_the_way.push_back(Packet { at, what });
    }

    #[inline]
    pub(super) fn poll_read(
        self: &Arc<Self>,
        end: usize,
        cx: &mut TaskContext<'_>,
        buf: &mut [u8],
        peek: bool,
    ) -> Poll<io::Result<usize>> {
        executor::inside_or_error("reading from a stream in memory")?;
        let mut waker = Some(cx.waker().clone());
        let partial = self.link().partial;
        let polled = self.with(|state| {
            let side = &mut state.ends[end];
            let pipe = &mut state.pipes[1 - end];
            if buf.is_empty() {
                return Poll::Ready(Ok(0));
            }
            if !pipe.arrived.is_empty() {
                let mut count = buf.len().min(pipe.arrived.len());
                if partial {
                    count = 1 + state.random.below(count as u64) as usize;
                }
                let (front, back) = pipe.arrived.as_slices();
                let split = count.min(front.len());
                buf[..split].copy_from_slice(&front[..split]);
                buf[split..count].copy_from_slice(&back[..count - split]);
                if !peek {
                    pipe.arrived.drain(..count);
                    pipe.bytes -= count;
                    state.woken.append(&mut pipe.writers);
                }
                return Poll::Ready(Ok(count));
            }
            // After the end, reads leave the error of a reset alone.
            if pipe.ended {
                return Poll::Ready(Ok(0));
            }
            if let Some(error) = side.error.take() {
                return Poll::Ready(Err(error.into()));
            }
            if side.reset || side.reads_no_more {
                return Poll::Ready(Ok(0));
            }
            waker = wait_in(
                &mut pipe.readers,
                waker.take().expect("it was cloned above"),
            );
            Poll::Pending
        });
        if let Poll::Ready(Ok(count)) = polled {
            let reader = self.addresses[end];
            let verb = if peek { "peeks" } else { "reads" };
            self.network.note(format_args!("{reader} {verb} {count}"));
        }
        polled
    }

    #[inline]
    pub(super) fn poll_write(
        self: &Arc<Self>,
        end: usize,
        cx: &mut TaskContext<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        executor::inside_or_error("writing to a stream in memory")?;
        let mut waker = Some(cx.waker().clone());
        let link = self.link();
        self.with(|state| {
            let side = &mut state.ends[end];
            if let Some(error) = side.error.take() {
                return Poll::Ready(Err(error.into()));
            }
            if side.reset || side.writes_no_more {
                return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
            }
            if buf.is_empty() {
                return Poll::Ready(Ok(0));
            }
            let pipe = &mut state.pipes[end];
            let room = link.window.saturating_sub(pipe.bytes);
            if room == 0 {
                waker = wait_in(
                    &mut pipe.writers,
                    waker.take().expect("it was cloned above"),
                );
                return Poll::Pending;
            }
            let mut count = buf.len().min(room);
            if link.partial {
                count = 1 + state.random.below(count as u64) as usize;
            }
            for packet in buf[..count].chunks(PACKET) {
                if !state.cut && link.breaks(&state.random) {
                    state.cut = true;
                    self.send(state, end, What::Reset);
                    self.send(state, 1 - end, What::Reset);
                    break;
                }
                self.send(state, end, What::Bytes(packet.to_vec()));
            }
            Poll::Ready(Ok(count))
        })
    }

    #[inline]
    pub(super) fn shutdown(self: &Arc<Self>, end: usize, how: Shutdown) -> io::Result<()> {
        self.with(|state| {
            if state.is_closed(end) {
                return Err(io::ErrorKind::NotConnected.into());
            }
            if how != Shutdown::Write {
                // What has arrived, and what still arrives, can be read.
                state.ends[end].reads_no_more = true;
                state.woken.append(&mut state.pipes[1 - end].readers);
            }
            if how != Shutdown::Read {
                self.end(state, end);
            }
            Ok(())
        })
    }

    /// Says that no more will be sent.
    #[inline]
    fn end(&self, state: &mut State, end: usize) {
        if !std::mem::replace(&mut state.ends[end].writes_no_more, true) {
            self.send(state, end, What::End);
            state.woken.append(&mut state.pipes[end].writers);
        }
    }

    /// The last handle of this end goes. What nobody has read, or `abort`, breaks the
    /// connection, as it does with the system's.
    #[inline]
    pub(super) fn close(self: &Arc<Self>, end: usize, abort: bool) {
        let spare = self.with(|state| {
            let incoming = &mut state.pipes[1 - end];
            let unread = std::mem::take(&mut incoming.arrived).len();
            incoming.bytes -= unread;
            let readers = std::mem::take(&mut incoming.readers);
            let writers = std::mem::take(&mut state.pipes[end].writers);
            let closed = state.is_closed(end);
            if (unread > 0 || abort) && !closed {
                self.send(state, end, What::Reset);
            } else if !closed {
                self.end(state, end);
            }
            state.ends[end].gone = true;
            (readers, writers)
        });
        drop(spare);
    }

    /// Whether the other side has broken it; told once.
    #[inline]
    pub(super) fn take_error(self: &Arc<Self>, end: usize) -> Option<io::Error> {
        self.with(|state| state.ends[end].error.take())
            .map(io::Error::from)
    }

    /// Whether this side can tell who the other one is.
    #[inline]
    pub(super) fn is_connected(self: &Arc<Self>, end: usize) -> bool {
        self.with(|state| !state.is_closed(end))
    }

    /// The link is cut.
    #[inline]
    pub(super) fn hold(self: &Arc<Self>) {
        self.with(|state| state.pipes.iter_mut().for_each(|pipe| pipe.held = true));
    }

    /// The link is whole again: what was held back is sent once more.
    #[inline]
    pub(super) fn release(self: &Arc<Self>) {
        self.with(|state| {
            for (from, pipe) in state.pipes.iter_mut().enumerate() {
                if !std::mem::replace(&mut pipe.held, false) {
                    continue;
                }
                let (source, target) = (self.addresses[from], self.addresses[1 - from]);
                let (source, target) = (source.ip(), target.ip());
                let mut last = clock::now();
                for packet in &mut pipe.on_the_way {
                    let size = packet.what.size();
                    let at = self.network.arrival(source, target, size, &state.random);
                    last = last.max(at).max(packet.at);
                    packet.at = last;
                }
                pipe.last = Some(last);
            }
        });
    }

    /// Both sides see a reset, now.
    #[inline]
    pub(super) fn reset_now(self: &Arc<Self>) {
        let [one, other] = self.addresses;
        self.network.note(format_args!("{one} x {other}"));
        self.with(|state| {
            for end in 0..2 {
                let pipe = &mut state.pipes[end];
                let lost = std::mem::take(&mut pipe.on_the_way);
                pipe.bytes -= lost.iter().map(|packet| packet.what.size()).sum::<usize>();
                state.reset(end);
            }
        });
    }
}

impl End {
    #[inline]
    fn takes_nothing(&self) -> bool {
        self.gone || (self.reads_no_more && self.writes_no_more)
    }
}

impl State {
    /// The next packet that has arrived by now, and who has sent it.
    #[inline]
    fn next_due(&mut self, now: Instant) -> Option<(usize, What)> {
        let due = |pipe: &Pipe| {
            let first = pipe.on_the_way.front().filter(|_| !pipe.held)?;
            (first.at <= now).then_some(first.at)
        };
        let from = match (due(&self.pipes[0]), due(&self.pipes[1])) {
            (Some(one), Some(other)) => usize::from(other < one),
            (Some(_), None) => 0,
            (None, Some(_)) => 1,
            (None, None) => return None,
        };
        let packet = self.pipes[from].on_the_way.pop_front()?;
        Some((from, packet.what))
    }

    #[inline]
    fn next_arrival(&self) -> Option<Instant> {
        let moving = self.pipes.iter().filter(|pipe| !pipe.held);
        let firsts = moving.filter_map(|pipe| pipe.on_the_way.front());
        firsts.map(|packet| packet.at).min()
    }

    /// Whether the connection is over for this end: it is broken, or both directions have
    /// ended.
    #[inline]
    fn is_closed(&self, end: usize) -> bool {
        self.ends[end].reset || self.pipes.iter().all(|pipe| pipe.ended)
    }

    /// This end learns that the connection is broken. What has arrived can still be read.
    #[inline]
    fn reset(&mut self, end: usize) {
        if self.is_closed(end) {
            return;
        }
        let side = &mut self.ends[end];
        side.reset = true;
        // Linux reports a broken pipe if only the other side has ended the stream.
        side.error = Some(match self.pipes[1 - end].ended {
            true => io::ErrorKind::BrokenPipe,
            false => io::ErrorKind::ConnectionReset,
        });
        self.woken.append(&mut self.pipes[1 - end].readers);
        self.woken.append(&mut self.pipes[end].writers);
    }
}

impl What {
    #[inline]
    fn size(&self) -> usize {
        match self {
            What::Bytes(bytes) => bytes.len(),
            What::End | What::Reset => 0,
        }
    }
}

impl fmt::Display for What {
    #[inline]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            What::Bytes(bytes) => write!(f, "\"{}\"", bytes.escape_ascii()),
            What::End => f.write_str("ends"),
            What::Reset => f.write_str("resets"),
        }
    }
}

/// Its timer: a packet arrives.
impl Wake for Connection {
    #[inline]
    fn wake(self: Arc<Self>) {
        self.with(|_| ());
    }
}
