//! Answers each request with its path.

use hyper::{Request, Response, body::Incoming, service::service_fn};
use soloist::{block_on, net::TcpListener};

fn main() -> std::io::Result<()> {
    block_on(async {
        let listener = TcpListener::bind("127.0.0.1:8080").await?;
        let page = async |request: Request<Incoming>| {
            let text = format!("This is {}.\n", request.uri().path());
            Ok::<_, std::convert::Infallible>(Response::new(text))
        };
        soloist_hyper::serve(listener, service_fn(page)).await;
        Ok(())
    })
}
