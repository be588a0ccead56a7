use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use turmoil::net::{TcpListener, TcpStream};

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

async fn serve() -> turmoil::Result {
    let listener = TcpListener::bind("0.0.0.0:80").await?;
    let (mut stream, _) = listener.accept().await?;
    let mut buf = [0; SIZE];
    while stream.read_exact(&mut buf).await.is_ok() {
        stream.write_all(&buf).await?;
    }
    Ok(())
}

async fn ask(server: String, trips: usize) -> turmoil::Result {
    let mut stream = TcpStream::connect((server.as_str(), 80)).await?;
    let mut buf = [0; SIZE];
    for _ in 0..trips {
        stream.write_all(&buf).await?;
        stream.read_exact(&mut buf).await?;
    }
    Ok(())
}

fn run(pairs: usize, trips: usize) {
    let mut sim = turmoil::Builder::new()
        .min_message_latency(Duration::from_millis(1))
        .max_message_latency(Duration::from_millis(1))
        .simulation_duration(Duration::from_secs(3600))
        .rng_seed(1)
        .build();
    for pair in 0..pairs {
        let name = format!("server-{pair}");
        sim.host(name.as_str(), serve);
        sim.client(format!("client-{pair}"), ask(name, trips));
    }
    sim.run().unwrap();
}

fn main() {
    bodies::measure::arguments();
    bodies::worlds::main(run);
}
