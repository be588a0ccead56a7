//! An app of axum on one thread. Its state is shared by the requests, and may also be used by other tasks.
//!
//! cargo run --release -p soloist-ecosystem --example axum_app
//! curl http://127.0.0.1:8080/count/apples
//! curl http://127.0.0.1:8080/

#[path = "../../examples/cli/mod.rs"]
mod cli;

use axum::extract::{Path, State};
use axum::routing::get;
use axum::{Json, Router};
use cli::say;
use soloist::{block_on, net::TcpListener, time::sleep};
use soloist_hyper::TowerToHyperService;
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

const USAGE: &str = "\
usage: axum_app [ADDRESS]

Counts words. Listens on ADDRESS (127.0.0.1:8080; with port 0 the system picks one).

  /            all words and their counts, as JSON
  /count/WORD  counts a word, after a pause of 10 ms";

type Counts = Arc<Mutex<BTreeMap<String, u32>>>;

fn main() -> io::Result<()> {
    let address = cli::parse(USAGE, |args| {
        let mut address = None;
        while let Some(arg) = args.next()? {
            match arg {
                lexopt::Arg::Value(value) if address.is_none() => {
                    address = Some(value.to_string_lossy().into_owned());
                }
                _ => return Err(cli::unknown(arg, USAGE)),
            }
        }
        Ok(address.unwrap_or("127.0.0.1:8080".into()))
    });
    let app = Router::new()
        .route("/", get(all))
        .route("/count/{word}", get(count))
        .with_state(Counts::default());
    block_on(async {
        let listener = TcpListener::bind(address.as_str()).await?;
        say(&format!("listening on http://{}", listener.local_addr()?));
        soloist_hyper::serve(listener, TowerToHyperService::new(app)).await;
        Ok(())
    })
}

async fn all(State(counts): State<Counts>) -> Json<BTreeMap<String, u32>> {
    Json(counts.lock().unwrap().clone())
}

async fn count(State(counts): State<Counts>, Path(word): Path<String>) -> String {
    // The timers of soloist work in the handlers of axum.
    sleep(Duration::from_millis(10)).await;
    let mut counts = counts.lock().unwrap();
    let count = counts.entry(word).or_default();
    *count += 1;
    format!("{count}\n")
}
