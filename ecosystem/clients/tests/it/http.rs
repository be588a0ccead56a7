//! HTTP clients, against Python's server.

use std::cell::Cell;
use std::rc::Rc;

use futures_lite::AsyncReadExt;
use soloist::spawn;

use crate::servers;
use crate::support::panic_of_async;
use crate::{run, run_with_tokio};

/// This directory.
fn here() -> &'static std::path::Path {
    std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it"))
}

const THIS_FILE: &str = include_str!("http.rs");

#[test]
fn reqwest_with_the_guard() {
    run_with_tokio(async || {
        let server = servers::http(here());
        let bytes = Rc::new(Cell::new(0));
        let client = reqwest::Client::new();
        let tasks: Vec<_> = (0..10)
            .map(|_| {
                let (client, bytes) = (client.clone(), bytes.clone());
                let url = format!("http://{}/http.rs", server.address);
                spawn(async move {
                    let text = client.get(url).send().await.unwrap().text().await.unwrap();
                    assert_eq!(text, THIS_FILE);
                    bytes.set(bytes.get() + text.len());
                })
            })
            .collect();
        for task in tasks {
            task.await;
        }
        assert_eq!(bytes.get(), 10 * THIS_FILE.len());
        let missing = client
            .get(format!("http://{}/missing", server.address))
            .send()
            .await;
        assert_eq!(missing.unwrap().status(), 404);
    });
}

#[test]
fn reqwest_without_the_guard_panics() {
    run(async || {
        let client = reqwest::Client::new();
        let panic =
            panic_of_async(async { drop(client.get("http://127.0.0.1:1/").send().await) }).await;
        assert!(panic.contains("there is no reactor running"), "{panic}");
    });
}

#[test]
fn isahc_works_as_it_is() {
    run(async || {
        let server = servers::http(here());
        let local = Rc::new(server);
        let tasks: Vec<_> = (0..10)
            .map(|_| {
                let server = local.clone();
                spawn(async move {
                    let url = format!("http://{}/http.rs", server.address);
                    let mut response = isahc::get_async(url).await.unwrap();
                    let mut text = String::new();
                    response.body_mut().read_to_string(&mut text).await.unwrap();
                    text
                })
            })
            .collect();
        for task in tasks {
            assert_eq!(task.await, THIS_FILE);
        }
    });
}
