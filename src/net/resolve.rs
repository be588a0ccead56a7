//! Converts addresses, as users write them, into socket addresses.

use std::io;
use std::net::ToSocketAddrs as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// Everything that names the address of a socket: a [`SocketAddr`], an IP address with a port,
/// `"127.0.0.1:80"`, `"[::1]:80"`, `"example.org:80"`, `("example.org", 80)`.
///
/// Numeric addresses are converted at once. Host names are looked up by the resolver of the
/// system; see [`resolve`].
///
/// The trait is implemented for the same types as std's trait of this name. It is sealed, so it
/// cannot be implemented elsewhere.
///
/// # Examples
///
/// ```
/// use soloist::{block_on, net::{TcpListener, TcpStream}};
///
/// block_on(async {
///     let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
///     let _stream = TcpStream::connect(listener.local_addr()?).await?;
///     Ok::<(), std::io::Error>(())
/// })?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub trait ToSocketAddrs: sealed::Lookup {}

impl<T: sealed::Lookup + ?Sized> ToSocketAddrs for T {}

mod sealed {
    use super::*;

    /// What an argument stands for.
    #[derive(Debug)]
    pub enum Target {
        Addresses(Vec<SocketAddr>),
        Name(String, u16),
    }

    pub trait Lookup {
        fn target(&self) -> io::Result<Target>;
    }
}

pub(crate) use self::sealed::{Lookup, Target};

/// Returns the addresses that an argument stands for. There is at least one.
///
/// A host name is looked up by the resolver of the system, on a thread of the pool of
/// [`unblock`](crate::unblock). Without the feature `blocking`, the look-up blocks this thread.
/// Numeric addresses need no look-up.
///
/// # Errors
///
/// Returns an error if the argument is not an address, and if the host name is not known.
///
/// # Cancel safety
///
/// The look-up cannot be interrupted. Its result is discarded.
///
/// # Examples
///
/// ```
/// use soloist::{block_on, net::resolve};
///
/// let addresses = block_on(resolve("127.0.0.1:80"))?;
/// assert_eq!(addresses, ["127.0.0.1:80".parse().unwrap()]);
/// assert!(block_on(resolve("localhost:80"))?[0].ip().is_loopback());
/// # Ok::<(), std::io::Error>(())
/// ```
pub async fn resolve(address: impl ToSocketAddrs) -> io::Result<Vec<SocketAddr>> {
    match address.target()? {
        Target::Addresses(addresses) if addresses.is_empty() => {
            Err(invalid_input("no address was given"))
        }
        Target::Addresses(addresses) => Ok(addresses),
        Target::Name(host, port) => look_up(host, port).await,
    }
}

async fn look_up(host: String, port: u16) -> io::Result<Vec<SocketAddr>> {
    let found = ask(host.clone(), port).await.map_err(|error| {
        let text = format!("the host name `{host}` could not be resolved: {error}");
        io::Error::new(error.kind(), text)
    })?;
    if found.is_empty() {
        return Err(invalid_input(&format!(
            "the host name `{host}` has no address"
        )));
    }
    Ok(found)
}

async fn ask(host: String, port: u16) -> io::Result<Vec<SocketAddr>> {
    #[cfg(feature = "testing")]
    if let Some(process) = crate::testing::world::Process::current()? {
        return Ok(vec![SocketAddr::new(process.look_up(&host)?, port)]);
    }
    #[cfg(feature = "blocking")]
    return crate::blocking::unblock(move || ask_system(&host, port)).await;
    #[cfg(not(feature = "blocking"))]
    ask_system(&host, port)
}

fn ask_system(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    // On Windows the empty name stands for the machine itself.
    if host.is_empty() {
        return Err(invalid_input("it is empty"));
    }
    Ok((host, port).to_socket_addrs()?.collect())
}

fn invalid_input(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, text)
}

/// Types without a host name.
macro_rules! impl_lookup {
    ($($type:ty),*) => {$(
        impl Lookup for $type {
            fn target(&self) -> io::Result<Target> {
                Ok(Target::Addresses(self.to_socket_addrs()?.collect()))
            }
        }
    )*};
}

impl_lookup!(
    SocketAddr,
    SocketAddrV4,
    SocketAddrV6,
    (IpAddr, u16),
    (Ipv4Addr, u16),
    (Ipv6Addr, u16),
    [SocketAddr]
);

impl Lookup for (&str, u16) {
    fn target(&self) -> io::Result<Target> {
        let (host, port) = *self;
        match host.parse::<IpAddr>() {
            Ok(ip) => (ip, port).target(),
            Err(_) => Ok(Target::Name(host.to_string(), port)),
        }
    }
}

impl Lookup for (String, u16) {
    fn target(&self) -> io::Result<Target> {
        (self.0.as_str(), self.1).target()
    }
}

impl Lookup for str {
    fn target(&self) -> io::Result<Target> {
        if let Ok(address) = self.parse::<SocketAddr>() {
            return address.target();
        }
        let parts = self.rsplit_once(':');
        let parts = parts.and_then(|(host, port)| Some((host, port.parse::<u16>().ok()?)));
        match parts {
            Some((host, port)) if !host.is_empty() && !host.contains([':', '/', '[', ']']) => {
                (host, port).target()
            }
            _ => Err(invalid_input(&format!(
                "`{self}` is not an address: write `host:port`, or `[ipv6]:port`"
            ))),
        }
    }
}

impl Lookup for String {
    fn target(&self) -> io::Result<Target> {
        self.as_str().target()
    }
}

impl<T: Lookup + ?Sized> Lookup for &T {
    fn target(&self) -> io::Result<Target> {
        (**self).target()
    }
}
