//! Message brokers: NATS and RabbitMQ.

use futures_lite::StreamExt;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, QueueDeclareOptions,
};
use lapin::types::FieldTable;
use soloist::spawn;

use crate::servers;
use crate::{run, run_with_tokio};

#[test]
fn async_nats_with_the_guard() {
    run_with_tokio(async || {
        let server = servers::nats();
        let client = async_nats::connect(server.address.to_string())
            .await
            .unwrap();
        let mut requests = client.subscribe("double").await.unwrap();
        let responder = spawn({
            let client = client.clone();
            async move {
                while let Some(request) = requests.next().await {
                    let n: u32 = str::from_utf8(&request.payload).unwrap().parse().unwrap();
                    let reply = (2 * n).to_string();
                    client
                        .publish(request.reply.unwrap(), reply.into())
                        .await
                        .unwrap();
                }
            }
        });
        client.flush().await.unwrap();
        for n in 0..10 {
            let reply = client
                .request("double", n.to_string().into())
                .await
                .unwrap();
            assert_eq!(reply.payload, (2 * n).to_string());
        }
        // Ends the subscription.
        client.drain().await.unwrap();
        responder.await;
    });
}

/// With its feature `smol`. Its sockets are on the thread of `async-io`.
#[test]
fn lapin_works_as_it_is() {
    run(async || {
        let server = servers::rabbitmq();
        let url = format!("amqp://guest:guest@{}/%2f", server.address);
        let connection = lapin::Connection::connect(&url, Default::default())
            .await
            .unwrap();
        let channel = connection.create_channel().await.unwrap();
        let declared = QueueDeclareOptions::default();
        channel
            .queue_declare("jobs".into(), declared, FieldTable::default())
            .await
            .unwrap();
        let options = BasicConsumeOptions::default();
        let mut jobs = channel
            .basic_consume(
                "jobs".into(),
                "worker".into(),
                options,
                FieldTable::default(),
            )
            .await
            .unwrap();
        let worker = spawn(async move {
            let mut seen = Vec::new();
            while seen.len() < 10 {
                let job = jobs.next().await.unwrap().unwrap();
                job.ack(BasicAckOptions::default()).await.unwrap();
                seen.push(job.data[0]);
            }
            seen
        });
        for n in 0..10 {
            let options = BasicPublishOptions::default();
            let job = [n];
            let sent =
                channel.basic_publish("".into(), "jobs".into(), options, &job, Default::default());
            sent.await.unwrap().await.unwrap();
        }
        assert_eq!(worker.await, (0..10).collect::<Vec<_>>());
        connection.close(200, "done".into()).await.unwrap();
    });
}
