use bench_http::{answer, listen};
use hyper::service::service_fn;
use soloist::net::TcpListener;

fn main() {
    soloist::block_on(async {
        let listener = TcpListener::try_from(listen()).unwrap();
        soloist_hyper::serve(listener, service_fn(answer)).await;
    });
}
