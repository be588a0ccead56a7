//! cargo run --example hello

use soloist::{block_on, spawn, time::sleep};
use std::time::Duration;

fn main() {
    block_on(async {
        let world = spawn(async {
            sleep(Duration::from_millis(500)).await;
            "world"
        });
        println!("hello");
        println!("{}", world.await);
    });
}
