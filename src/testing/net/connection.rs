//! Connections of the in-memory network.

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
use crate::sync::{Mutex, lock};
use crate::testing::schedule::Random;
use crate::time::{Sleep, sleep_until};

/// The size of the largest packet.
const PACKET: usize = 1460;

/// Both directions of a connection. One timer wakes it when the next packet arrives.
///
/// Lock order: the lock of the network can be taken while the lock of a connection is held, but not
/// the other way round.
pub(super) struct Connection {
    network: Network,
    /// The addresses of the client and of the server.
    pub(super) addresses: [SocketAddr; 2],
    state: Mutex<State>,
}

struct State {
    /// The data that each end has sent.
    pipes: [Pipe; 2],
    ends: [End; 2],
    /// Whether a fault of the link has reset the connection, which happens only once.
    cut: bool,
    random: Random,
    timer: Option<Sleep>,
    /// Wakers to be woken after the lock has been released.
    woken: Vec<Waker>,
}

#[derive(Default)]
struct Pipe {
    /// Packets that have not arrived, in the order in which they will arrive.
    on_the_way: VecDeque<Packet>,
    arrived: VecDeque<u8>,
    /// The number of bytes in `on_the_way` and `arrived`.
    bytes: usize,
    /// Set while the link is cut.
    held: bool,
    /// Whether the end of the stream has arrived.
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

/// The state of one end.
#[derive(Default)]
struct End {
    reset: bool,
    /// The error of a reset, until it has been reported.
    error: Option<io::ErrorKind>,
    reads_no_more: bool,
    writes_no_more: bool,
    /// Whether the last handle has been dropped.
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

    /// Delivers the packets that are due, calls `f`, and wakes the tasks that are affected.
    #[inline]
    fn with<R>(self: &Arc<Self>, f: impl FnOnce(&mut State) -> R) -> R {
        let (result, woken) = {
            let mut state = lock(&self.state);
            self.settle(&mut state);
            let result = f(&mut state);
            // Packets that `f` has sent over a link without latency are due at once.
            self.settle(&mut state);
            self.set_timer(&mut state);
            (result, std::mem::take(&mut state.woken))
        };
        wake_all(woken);
        result
    }

    /// Delivers the packets that are due.
    #[inline]
    fn settle(&self, state: &mut State) {
        let now = clock::now();
        while let Some((from, what)) = state.next_due(now) {
            let to = 1 - from;
            let pipe = &mut state.pipes[from];
            match what {
                // Packets after a reset are lost.
                What::Bytes(bytes) if state.ends[to].reset => {
                    pipe.bytes -= bytes.len();
                    state.woken.append(&mut pipe.writers);
                }
                // Like Linux, which resets both sides if the receiver has shut down both
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

    /// Sets the timer to the arrival of the next packet.
    #[inline]
    fn set_timer(self: &Arc<Self>, state: &mut State) {
        let over = state.ends.iter().all(|end| end.gone);
        let Some(next) = state.next_arrival().filter(|_| !over) else {
            state.timer = None;
            return;
        };
        if executor::try_current().is_none() {
            // There are no timers outside of a runtime. The next poll of a waiting task sets the
            // timer, in the runtime of that task.
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
            // The system's clock has advanced since the packets were delivered.
            state.timer = None;
            state.woken.push(waker);
        }
    }

    #[inline]
    fn link(&self) -> Link {
        let [one, other] = self.addresses;
        self.network.link(one.ip(), other.ip())
    }

    /// Sends data from this end to the other.
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
            // After the end of the stream, reads do not consume the error of a reset.
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
                // Bytes that have arrived, or still arrive, can be read.
                state.ends[end].reads_no_more = true;
                state.woken.append(&mut state.pipes[1 - end].readers);
            }
            if how != Shutdown::Read {
                self.end(state, end);
            }
            Ok(())
        })
    }

    /// Ends the stream of this end.
    #[inline]
    fn end(&self, state: &mut State, end: usize) {
        if !std::mem::replace(&mut state.ends[end].writes_no_more, true) {
            self.send(state, end, What::End);
            state.woken.append(&mut state.pipes[end].writers);
        }
    }

    /// Called when the last handle of this end is dropped. Like with the system's TCP, the connection
    /// is reset if there are unread bytes or if `abort` is set.
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

    /// Returns the error of a reset, and clears it.
    #[inline]
    pub(super) fn take_error(self: &Arc<Self>, end: usize) -> Option<io::Error> {
        self.with(|state| state.ends[end].error.take())
            .map(io::Error::from)
    }

    /// Returns whether the peer's address is still available.
    #[inline]
    pub(super) fn is_connected(self: &Arc<Self>, end: usize) -> bool {
        self.with(|state| !state.is_closed(end))
    }

    /// Called when the link is cut: packets are held back.
    #[inline]
    pub(super) fn hold(self: &Arc<Self>) {
        self.with(|state| state.pipes.iter_mut().for_each(|pipe| pipe.held = true));
    }

    /// Called when the link is healed: packets that were held back are sent again.
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

    /// Resets both ends at once.
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
    /// Removes the next packet that is due. Returns the end that sent it, and its content.
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

    /// Returns whether the connection is closed for this end: it has been reset, or both directions
    /// have ended.
    #[inline]
    fn is_closed(&self, end: usize) -> bool {
        self.ends[end].reset || self.pipes.iter().all(|pipe| pipe.ended)
    }

    /// Resets this end. Bytes that have arrived can still be read.
    #[inline]
    fn reset(&mut self, end: usize) {
        if self.is_closed(end) {
            return;
        }
        let side = &mut self.ends[end];
        side.reset = true;
        // Linux reports a broken pipe if the peer had ended its stream before the reset.
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

/// The waker of the timer: a packet arrives.
impl Wake for Connection {
    #[inline]
    fn wake(self: Arc<Self>) {
        self.with(|_| ());
    }
}
