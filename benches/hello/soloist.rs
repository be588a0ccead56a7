use soloist::io::{AsyncReadExt, AsyncWriteExt};
use soloist::net::{TcpListener, TcpStream};
use std::time::Duration;

fn main() {
    soloist::block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = soloist::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            soloist::time::sleep(Duration::from_millis(1)).await;
            stream.write_all(b"hello").await.unwrap();
        });
        let mut stream = TcpStream::connect(address).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        server.await;
        println!("{text}");
    });
}
