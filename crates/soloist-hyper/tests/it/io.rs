//! Adapters of streams, and timers.

use hyper::rt::Timer as _;
use soloist::io::{AsyncReadExt, AsyncWriteExt};
use soloist::testing::net::{TcpListener, TcpStream};
use soloist::time::{now, sleep};
use soloist::{spawn, testing};
use soloist_hyper::{Io, Timer};

use crate::support::{ADDRESS, large, seconds};

#[test]
fn bytes_survive_adapters_inside_of_each_other() {
    testing::block_on(async {
        let listener = TcpListener::bind(ADDRESS).await.unwrap();
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
    testing::block_on(async {
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
