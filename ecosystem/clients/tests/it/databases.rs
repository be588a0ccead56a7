//! Redis, PostgreSQL and SQLite.

use std::cell::Cell;
use std::rc::Rc;

use fred::prelude::{ClientLike, EventInterface, KeysInterface, PubsubInterface};
use futures_lite::StreamExt;
use soloist::net::TcpStream;
use soloist::spawn;
use sqlx::{Connection, Row};
use tokio_util::compat::FuturesAsyncReadCompatExt;

use crate::servers;
use crate::{run, run_with_tokio};

const TASKS: i64 = 20;

/// Awaits `TASKS` tasks of soloist, which are not `Send`, and returns the sum of their results.
async fn sum_of_tasks(make: impl AsyncFn(i64) -> i64 + 'static) -> i64 {
    let make = Rc::new(make);
    let sum = Rc::new(Cell::new(0));
    let tasks: Vec<_> = (1..=TASKS)
        .map(|n| {
            let (make, sum) = (make.clone(), sum.clone());
            spawn(async move {
                let result = make(n).await;
                sum.set(sum.get() + result);
            })
        })
        .collect();
    for task in tasks {
        task.await;
    }
    sum.get()
}

const SUM: i64 = TASKS * (TASKS + 1) / 2;

#[test]
fn redis_with_the_guard() {
    run_with_tokio(async || {
        let server = servers::redis();
        let client = redis::Client::open(format!("redis://{}/", server.address)).unwrap();
        let redis = client.get_multiplexed_async_connection().await.unwrap();
        let sum = sum_of_tasks({
            let redis = redis.clone();
            async move |_| {
                let increment = redis::cmd("INCR").arg("counter").take();
                increment.query_async(&mut redis.clone()).await.unwrap()
            }
        });
        assert_eq!(sum.await, SUM);

        let mut subscriber = client.get_async_pubsub().await.unwrap();
        subscriber.subscribe("news").await.unwrap();
        let publish = redis::cmd("PUBLISH").arg("news").arg("hello").take();
        let receivers: i64 = publish.query_async(&mut redis.clone()).await.unwrap();
        assert_eq!(receivers, 1);
        let message = subscriber.on_message().next().await.unwrap();
        assert_eq!(message.get_payload::<String>().unwrap(), "hello");
    });
}

#[test]
fn fred_with_the_guard() {
    run_with_tokio(async || {
        let server = servers::redis();
        let config = fred::types::config::Config::from_url(&format!("redis://{}", server.address));
        let client = fred::types::Builder::from_config(config.unwrap())
            .build()
            .unwrap();
        client.init().await.unwrap();
        let sum = sum_of_tasks({
            let client = client.clone();
            async move |_| client.incr("counter").await.unwrap()
        });
        assert_eq!(sum.await, SUM);

        let subscriber = client.clone_new();
        subscriber.init().await.unwrap();
        subscriber.subscribe("news").await.unwrap();
        let mut messages = subscriber.message_rx();
        let receivers: i64 = client.publish("news", "hello").await.unwrap();
        assert_eq!(receivers, 1);
        let message = messages.recv().await.unwrap();
        assert_eq!(message.value.as_str().unwrap(), "hello");
        client.quit().await.unwrap();
    });
}

#[test]
fn tokio_postgres_over_compat() {
    run(async || {
        let server = servers::postgres();
        let mut config = tokio_postgres::Config::new();
        config.user("postgres").dbname("postgres");
        let stream = TcpStream::connect(server.address).await.unwrap().compat();
        let (client, connection) = config
            .connect_raw(stream, tokio_postgres::NoTls)
            .await
            .unwrap();
        let connection = spawn(connection);
        use_tokio_postgres(client).await;
        // It ends when the client is dropped.
        connection.await.unwrap();
    });
}

#[test]
fn tokio_postgres_with_the_guard() {
    run_with_tokio(async || {
        let server = servers::postgres();
        let url = format!("postgres://postgres@{}/postgres", server.address);
        let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls)
            .await
            .unwrap();
        let connection = spawn(connection);
        use_tokio_postgres(client).await;
        connection.await.unwrap();
    });
}

async fn use_tokio_postgres(client: tokio_postgres::Client) {
    let client = Rc::new(client);
    let sum = sum_of_tasks({
        let client = client.clone();
        async move |n| {
            client
                .query_one("SELECT $1::int8", &[&n])
                .await
                .unwrap()
                .get(0)
        }
    });
    assert_eq!(sum.await, SUM);
    let error = client.query_one("SELECT 1 / 0", &[]).await.unwrap_err();
    assert_eq!(
        error.code(),
        Some(&tokio_postgres::error::SqlState::DIVISION_BY_ZERO)
    );
}

/// With its feature `runtime-smol`. Its sockets are on the thread of `async-io`.
#[test]
fn sqlx_with_postgres_works_as_it_is() {
    run(async || {
        let server = servers::postgres();
        let url = format!("postgres://postgres@{}/postgres", server.address);
        let pool = sqlx::postgres::PgPoolOptions::new()
            .max_connections(4)
            .connect(&url)
            .await
            .unwrap();
        let sum = sum_of_tasks({
            let pool = pool.clone();
            async move |n| {
                let query = sqlx::query("SELECT $1::int8").bind(n);
                query.fetch_one(&pool).await.unwrap().get(0)
            }
        });
        assert_eq!(sum.await, SUM);
        assert_eq!(pool.size(), 4);
        pool.close().await;
    });
}

/// SQLite runs on threads of its own, whatever the runtime is.
#[test]
fn sqlx_with_sqlite_works_as_it_is() {
    run(async || {
        let mut sqlite = sqlx::SqliteConnection::connect("sqlite::memory:")
            .await
            .unwrap();
        sqlx::query("CREATE TABLE numbers (n INTEGER)")
            .execute(&mut sqlite)
            .await
            .unwrap();
        let mut transaction = sqlite.begin().await.unwrap();
        for n in 1..=TASKS {
            let insert = sqlx::query("INSERT INTO numbers VALUES (?)").bind(n);
            insert.execute(&mut *transaction).await.unwrap();
        }
        transaction.commit().await.unwrap();
        let rows = sqlx::query("SELECT n FROM numbers").fetch(&mut sqlite);
        let sum = rows
            .fold(0, |sum, row| sum + row.unwrap().get::<i64, _>(0))
            .await;
        assert_eq!(sum, SUM);
        sqlite.close().await.unwrap();
    });
}
