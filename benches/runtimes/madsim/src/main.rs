use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use madsim::net::{TcpListener, TcpStream};
use madsim::runtime::Runtime;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use bodies::worlds::SIZE;

mod rt {
    #[derive(Clone, Copy)]
    pub struct Ctx;
}

#[path = "../../../bodies"]
mod bodies {
    #[allow(dead_code)]
    pub mod measure;
    pub mod place;
    pub mod worlds;
}

async fn serve(address: SocketAddr) -> std::io::Result<()> {
    let listener = TcpListener::bind(address).await?;
    let (mut stream, _) = listener.accept().await?;
    let mut buf = [0; SIZE];
    while stream.read_exact(&mut buf).await.is_ok() {
        stream.write_all(&buf).await?;
        stream.flush().await?;
    }
    Ok(())
}

async fn ask(server: SocketAddr, trips: usize) -> std::io::Result<()> {
    // There is no queue of connections before the server listens.
    madsim::time::sleep(Duration::from_millis(10)).await;
    let mut stream = TcpStream::connect(server).await?;
    let mut buf = [0; SIZE];
    for _ in 0..trips {
        stream.write_all(&buf).await?;
        stream.flush().await?;
        stream.read_exact(&mut buf).await?;
    }
    Ok(())
}

fn run(pairs: usize, trips: usize) {
    let mut config = madsim::Config::default();
    config.net.send_latency = Duration::from_millis(1)..Duration::from_millis(2);
    let runtime = Runtime::with_seed_and_config(1, config);
    let ip = |side, pair: usize| IpAddr::from([10, side, (pair / 250) as u8, (pair % 250) as u8]);
    let clients: Vec<_> = (0..pairs)
        .map(|pair| {
            let address = SocketAddr::new(ip(1, pair), 80);
            let server = runtime.create_node().ip(address.ip()).build();
            server.spawn(serve(address));
            let client = runtime.create_node().ip(ip(2, pair)).build();
            client.spawn(ask(address, trips))
        })
        .collect();
    runtime.block_on(async {
        for client in clients {
            client.await.unwrap().unwrap();
        }
    });
}

fn main() {
    bodies::measure::arguments();
    bodies::worlds::main(run);
}
