use std::time::Duration;

use soloist::io::{AsyncReadExt, AsyncWriteExt};
use soloist::net::{TcpListener, TcpStream};
use soloist::testing::{self, Link};

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

async fn serve() -> std::io::Result<()> {
    let listener = TcpListener::bind("0.0.0.0:80").await?;
    let (mut stream, _) = listener.accept().await?;
    let mut buf = [0; SIZE];
    while stream.read_exact(&mut buf).await.is_ok() {
        stream.write_all(&buf).await?;
    }
    Ok(())
}

async fn ask(server: String, trips: usize) -> std::io::Result<()> {
    let mut stream = TcpStream::connect((server.as_str(), 80)).await?;
    let mut buf = [0; SIZE];
    for _ in 0..trips {
        stream.write_all(&buf).await?;
        stream.read_exact(&mut buf).await?;
    }
    Ok(())
}

fn run(pairs: usize, trips: usize) {
    testing::simulate([1], |world| async move {
        world.set_default(Link::new().latency(Duration::from_millis(1)));
        let clients: Vec<_> = (0..pairs)
            .map(|pair| {
                let name = format!("server-{pair}");
                world.host(&name).spawn(serve()).detach();
                let client = world.host(&format!("client-{pair}"));
                client.spawn(ask(name, trips))
            })
            .collect();
        for client in clients {
            client.await?;
        }
        Ok::<(), std::io::Error>(())
    });
}

fn main() {
    bodies::measure::arguments();
    bodies::worlds::main(run);
}
