use monoio::io::{AsyncReadRentExt, AsyncWriteRentExt};
use monoio::net::{TcpListener, TcpStream};
use std::time::Duration;

fn main() {
    let runtime = monoio::RuntimeBuilder::<monoio::FusionDriver>::new();
    runtime.enable_timer().build().unwrap().block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = monoio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            monoio::time::sleep(Duration::from_millis(1)).await;
            stream.write_all("hello").await.0.unwrap();
        });
        let mut stream = TcpStream::connect(address).await.unwrap();
        let (done, text) = stream.read_exact(vec![0; 5]).await;
        done.unwrap();
        server.await;
        println!("{}", String::from_utf8(text).unwrap());
    });
}
