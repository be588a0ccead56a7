//! A server and a client of gRPC, by tonic, in one process. The service is the health check of gRPC, with
//! code that was generated from its `.proto` file.
//!
//! cargo run --release -p soloist-ecosystem --example grpc

use soloist::net::TcpListener;
use soloist::{block_on, spawn};
use soloist_hyper::{Connector, Executor, TowerToHyperService};
use std::error::Error;
use std::future::IntoFuture;
use tonic_health::ServingStatus;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

fn main() -> Result<(), Box<dyn Error>> {
    block_on(async {
        let (reporter, service) = tonic_health::server::health_reporter();
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let server = soloist_hyper::serve(listener, TowerToHyperService::new(service));
        let _server = spawn(server.into_future());

        let channel = hyper_util::client::legacy::Client::builder(Executor)
            .http2_only(true)
            .build(Connector::new());
        let mut client = HealthClient::with_origin(channel, format!("http://{address}").parse()?);
        let service = String::from("kitchen");
        let request = HealthCheckRequest { service };
        // An unknown service is an error.
        let error = client.check(request.clone()).await.unwrap_err();
        println!("check: {:?}", error.code());

        reporter
            .set_service_status("kitchen", ServingStatus::Serving)
            .await;
        // The replies to `watch` arrive one after the other, whenever the status changes.
        let mut watch = client.watch(request.clone()).await?.into_inner();
        let current = watch.message().await?.expect("the current status");
        println!("watch: {:?}", current.status());
        reporter
            .set_service_status("kitchen", ServingStatus::NotServing)
            .await;
        let next = watch.message().await?.expect("the next status");
        println!("watch: {:?}", next.status());
        let reply = client.check(request).await?.into_inner();
        println!("check: {:?}", reply.status());
        Ok(())
    })
}
