//! soloist with crates that were written for tokio, for smol, or for any runtime: a test for each row of
//! docs/ecosystem.md.

#![cfg(unix)]

#[path = "../../../../tests/it/programs.rs"]
mod programs;
#[path = "../../../tests/it/servers.rs"]
mod servers;
#[path = "../../../../tests/it/support.rs"]
mod support;

mod databases;
mod http;
mod messages;
mod tokio_crates;

use support::watchdog;

/// Runs a test in a `block_on` of soloist, under a watchdog.
fn run(test: impl AsyncFnOnce() + Send + 'static) {
    watchdog(|| soloist::block_on(test()));
}

/// As [`run`], in the context of a runtime of tokio, whose thread waits for tokio's sockets and timers.
fn run_with_tokio(test: impl AsyncFnOnce() + Send + 'static) {
    watchdog(|| {
        let tokio = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let _guard = tokio.enter();
        soloist::block_on(test());
    });
}

/// The last column of each table of the page, except the first table.
#[test]
fn each_row_of_the_page_names_a_test() {
    let page = include_str!("../../../../docs/ecosystem.md");
    let directories = [
        "tests/it",
        "../tests/it",
        "../../crates/soloist-hyper/tests/it",
    ]
    .map(std::fs::read_dir);
    let tests: String = directories
        .into_iter()
        .flat_map(Result::unwrap)
        .map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap())
        .collect();
    let (mut in_table, mut rows) = (false, 0);
    for line in page.lines() {
        if line.ends_with("| test |") {
            in_table = true;
        } else if !line.starts_with('|') {
            in_table = false;
        } else if in_table && !line.starts_with("|--") {
            let test = line.trim_end_matches(" |").rsplit("| ").next().unwrap();
            let definition = format!("\nfn {}() {{", test.trim_matches('`'));
            assert!(tests.contains(&definition), "there is no test {test}");
            rows += 1;
        }
    }
    assert_eq!(rows, 26);
}
