use compio::io::{AsyncReadExt, AsyncWriteExt};
use compio::net::{TcpListener, TcpStream};
use std::time::Duration;

fn main() {
    compio::runtime::Runtime::new().unwrap().block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = compio::runtime::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            compio::time::sleep(Duration::from_millis(1)).await;
            stream.write_all("hello").await.0.unwrap();
        });
        let mut stream = TcpStream::connect(address).await.unwrap();
        let compio::BufResult(done, text) = stream.read_exact(vec![0; 5]).await;
        done.unwrap();
        server.await.unwrap();
        println!("{}", String::from_utf8(text).unwrap());
    });
}
