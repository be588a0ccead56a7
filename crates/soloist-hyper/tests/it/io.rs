//! Adapters of streams, and timers.

use hyper::rt::Timer as _;
use soloist::io::{AsyncReadExt, AsyncWriteExt};
use soloist::net::TcpStream;
use soloist::spawn;
use soloist::time::{now, sleep};
use soloist_hyper::{Io, Timer};

use crate::support::{ADDRESS, large, listen, on_host, seconds};

#[test]
fn bytes_survive_adapters_inside_of_each_other() {
    on_host(async |_| {
        let listener = listen().await;
        let sender = spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let mut stream = Io::new(Io::vectored(stream));
            stream.write_all(&large()).await.unwrap();
            stream.close().await.unwrap();
        });
        let stream = TcpStream::connect(ADDRESS).await.unwrap();
        let mut stream = Io::new(Io::new(Io::new(Io::new(stream))));
        let mut received = Vec::new();
        stream.read_to_end(&mut received).await.unwrap();
        sender.await;
        assert!(received == large());
    });
}

#[test]
fn timers_go_by_the_virtual_clock() {
    on_host(async |_| {
        let start = now();
        sleep(seconds(3600)).await;
        assert_eq!(Timer.now() - start, seconds(3600));
        Timer.sleep(seconds(60)).await;
        let mut timer = Timer.sleep_until(start);
        Timer.reset(&mut timer, start + seconds(7200));
        timer.await;
        assert_eq!(now() - start, seconds(7200));
    });
}
