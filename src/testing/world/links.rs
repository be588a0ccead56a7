//! What is between two hosts.

use std::time::Duration;

/// The properties of the connection between two simulated hosts: how long messages take, and what
/// can happen to them.
///
/// By default messages arrive at once and in order, and nothing happens to them. Whether a fault
/// happens to a message depends on the seed, the two hosts and the number of the message.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use soloist::{net::UdpSocket, testing::{self, Link}, time};
///
/// testing::simulate(0..10, |world| async move {
///     let (server, client) = (world.host("server"), world.host("client"));
///     let link = Link::new().latency(Duration::from_millis(20));
///     world.link(&server, &client).set(link);
///     let echo = server.spawn(async {
///         let socket = UdpSocket::bind("0.0.0.0:7").await?;
///         let (_, from) = socket.recv_from(&mut [0; 8]).await?;
///         socket.send_to(b"pong", from).await
///     });
///     let start = time::now();
///     let client = client.spawn(async {
///         let socket = UdpSocket::bind("0.0.0.0:0").await?;
///         time::sleep(Duration::from_secs(1)).await;
///         socket.send_to(b"ping", "server:7").await?;
///         socket.recv(&mut [0; 8]).await
///     });
///     assert_eq!(client.await?, 4);
///     assert_eq!(time::now() - start, Duration::from_millis(1040));
///     echo.await?;
///     Ok::<(), std::io::Error>(())
/// });
/// ```
#[derive(Clone, Copy, PartialEq, Debug)]
#[must_use = "pass it to `LinkHandle::set` or `World::set_default`"]
pub struct Link {
    pub(super) latency: Duration,
    pub(super) jitter: Duration,
    pub(super) bandwidth: u64,
    pub(super) loss: f64,
    pub(super) duplicates: f64,
    pub(super) reordering: f64,
    pub(super) resets: f64,
    pub(super) partial: bool,
    pub(super) window: usize,
}

impl Link {
    /// Returns a link without faults: no latency, no limit of bandwidth, and a window of 64 KiB.
    ///
    /// # Examples
    ///
    /// See [`Link`].
    pub fn new() -> Link {
        Link {
            latency: Duration::ZERO,
            jitter: Duration::ZERO,
            bandwidth: 0,
            loss: 0.0,
            duplicates: 0.0,
            reordering: 0.0,
            resets: 0.0,
            partial: false,
            window: 64 * 1024,
        }
    }

    /// Sets how long each message takes in one direction.
    ///
    /// # Examples
    ///
    /// See [`Link`].
    pub fn latency(mut self, latency: Duration) -> Link {
        self.latency = latency;
        self
    }

    /// Sets the longest additional delay of a message. Each message has a random one. So datagrams
    /// can overtake each other. The bytes of a stream stay in order.
    ///
    /// # Examples
    ///
    /// See [`Link::loss`].
    pub fn jitter(mut self, jitter: Duration) -> Link {
        self.jitter = jitter;
        self
    }

    /// Limits the bytes per second in each direction, for all sockets of the two hosts together. 0
    /// sets no limit.
    ///
    /// # Examples
    ///
    /// ```
    /// # use soloist::testing::Link;
    /// let modem = Link::new().bandwidth(7_000);
    /// ```
    pub fn bandwidth(mut self, bytes_per_second: u64) -> Link {
        self.bandwidth = bytes_per_second;
        self
    }

    /// Sets the probability with which a message is lost. A lost datagram does not arrive. Lost
    /// bytes of a stream are sent again, so they arrive later: after 200 ms, or 400 ms more if they
    /// are lost again, and so on.
    ///
    /// # Panics
    ///
    /// Panics if the probability is not between 0 and 1.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use soloist::testing::Link;
    /// let radio = Link::new().latency(Duration::from_millis(30)).jitter(Duration::from_millis(20));
    /// let radio = radio.loss(0.02).duplicates(0.001).reordering(0.01);
    /// ```
    #[track_caller]
    pub fn loss(mut self, probability: f64) -> Link {
        self.loss = check(probability);
        self
    }

    /// Sets the probability with which a datagram arrives twice. Streams are not affected.
    ///
    /// # Panics
    ///
    /// Panics if the probability is not between 0 and 1.
    ///
    /// # Examples
    ///
    /// See [`Link::loss`].
    #[track_caller]
    pub fn duplicates(mut self, probability: f64) -> Link {
        self.duplicates = check(probability);
        self
    }

    /// Sets the probability with which a datagram is overtaken by later ones: it takes 10 ms and
    /// twice the usual time more. Streams are not affected.
    ///
    /// # Panics
    ///
    /// Panics if the probability is not between 0 and 1.
    ///
    /// # Examples
    ///
    /// See [`Link::loss`].
    #[track_caller]
    pub fn reordering(mut self, probability: f64) -> Link {
        self.reordering = check(probability);
        self
    }

    /// Sets the probability with which a segment of a stream (at most 1,460 bytes) resets its
    /// connection instead of arriving. Both sides see the reset.
    ///
    /// # Panics
    ///
    /// Panics if the probability is not between 0 and 1.
    ///
    /// # Examples
    ///
    /// ```
    /// # use soloist::testing::Link;
    /// let bad = Link::new().resets(0.001).partial(true).window(4096);
    /// ```
    #[track_caller]
    pub fn resets(mut self, probability: f64) -> Link {
        self.resets = check(probability);
        self
    }

    /// Sets whether reads and writes of streams transfer only some of the bytes that they could.
    ///
    /// # Examples
    ///
    /// See [`Link::resets`].
    pub fn partial(mut self, partial: bool) -> Link {
        self.partial = partial;
        self
    }

    /// Sets how many bytes a stream takes that the other side has not read.
    ///
    /// # Panics
    ///
    /// Panics if the window is 0: nothing would pass.
    ///
    /// # Examples
    ///
    /// See [`Link::resets`].
    #[track_caller]
    pub fn window(mut self, bytes: usize) -> Link {
        assert!(bytes > 0, "a window of 0 bytes would let nothing pass");
        self.window = bytes;
        self
    }
}

#[track_caller]
fn check(probability: f64) -> f64 {
    assert!(
        (0.0..=1.0).contains(&probability),
        "{probability} is no probability: pass a number from 0 to 1"
    );
    probability
}

impl Default for Link {
    fn default() -> Link {
        Link::new()
    }
}
