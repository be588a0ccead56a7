use bench_http::{answer, http, listen};
use hyper::service::service_fn;
use smol::net::TcpListener;
use smol::{Async, LocalExecutor};
use smol_hyper::rt::{FuturesIo, SmolExecutor, SmolTimer};
use std::rc::Rc;
use std::sync::Arc;

fn main() {
    let spawner = Arc::new(smol::Executor::new());
    let executor = Rc::new(LocalExecutor::new());
    smol::block_on(executor.run(async {
        let http = Rc::new(http(SmolExecutor::new(spawner), SmolTimer::new()));
        let listener = TcpListener::from(Async::new(listen()).unwrap());
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            stream.set_nodelay(true).unwrap();
            let http = http.clone();
            let connection = async move {
                let service = service_fn(answer);
                let _ = http
                    .serve_connection_with_upgrades(FuturesIo::new(stream), service)
                    .await;
            };
            executor.spawn(connection).detach();
        }
    }));
}
